"""Three ways of reading an encoder's layers behind one interface.

An aggregation takes the hidden states, and the prior over its K predictions, and returns
their logits with the log-probability of each. VARAN has K = L. The baselines have K = 1
and log_q = 0, so the same objective and the same combination serve all three, and only
aggregation differs.
"""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .fused import read_layer, valid_frames
from .heads import ProbingHeads
from .posterior import LayerPosterior, masked_mean

AGGREGATIONS = ("last_layer", "weighted_sum", "varan")


class Reading(NamedTuple):
    """logits: K tensors [T, B, V], or [B, V] of a pooled aggregation. log_q: [B, K], at least
    float32. means: [B, K, D], what the posterior saw; None without one."""

    logits: List[Tensor]
    log_q: Tensor
    means: Optional[Tensor] = None


def build_aggregation(
    name: str,
    *,
    num_layers: int,
    dim: int,
    num_classes: int,
    shared_head: bool = False,
    head_dim: int = 0,
    dropout: float = 0.0,
    layer_norm: bool = False,
    posterior_heads: int = 16,
    layer_embedding: bool = False,
    posterior_lr_multiplier: float = 0.1,
    posterior_centred: bool = True,
    pooled: bool = False,
) -> nn.Module:
    """An aggregation by name (one of `AGGREGATIONS`, else ValueError).

    num_layers: L. dim: width D. num_classes: V. shared_head, head_dim, dropout: see
    `heads`. layer_norm: give layers 1 .. L-1 a LayerNorm each before anything reads
    them; layer L has passed the encoder's own last norm already. posterior_heads,
    layer_embedding, posterior_lr_multiplier, posterior_centred: see `LayerPosterior`.
    pooled: heads read the mean over valid frames, one prediction an utterance
    (classification), instead of every frame (CTC).
    """
    if name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {name!r}: choose one of {', '.join(AGGREGATIONS)}")
    head = dict(head_dim=head_dim, dropout=dropout)
    if name == "last_layer":
        return LastLayer(ProbingHeads(dim, num_classes, 1, **head), pooled)
    norms = LayerNorms(dim, num_layers, layer_norm)
    if name == "weighted_sum":
        return WeightedSum(num_layers, norms, ProbingHeads(dim, num_classes, 1, **head), pooled)
    return Varan(
        norms,
        LayerPosterior(
            dim,
            posterior_heads,
            num_layers if layer_embedding else 0,
            lr_multiplier=posterior_lr_multiplier,
            centred=posterior_centred,
        ),
        ProbingHeads(dim, num_classes, num_layers, shared=shared_head, **head),
        pooled,
    )


class LayerNorms(nn.Module):
    """The LayerNorm of each layer but the last, or none at all."""

    def __init__(self, dim: int, num_layers: int, enabled: bool):
        super().__init__()
        norms = [nn.LayerNorm(dim) for _ in range(num_layers - 1)] if enabled else []
        self.norms = nn.ModuleList(norms)

    def forward(self, state: Tensor, layer: int) -> Tensor:
        return self.norms[layer](state) if layer < len(self.norms) else state


def _without_padding(state: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """[T, B, D] with zeros in the padding: NaN there would reach the gradient of every
    weight that reads the state, since 0 * NaN is NaN."""
    if padding_mask is None:
        return state
    return state.masked_fill(padding_mask.t().unsqueeze(-1), 0)


def _recomputed(function, *tensors):
    """function(*tensors), keeping nothing but the inputs for the backward pass.

    The encoder keeps its states anyway; copies of them (without padding, normalised)
    would double that, for all L layers at once.
    """
    if not torch.is_grad_enabled():
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False)


def _pool(norms: LayerNorms, state: Tensor, layer: int, padding_mask: Optional[Tensor]) -> Tensor:
    """[T, B, D] -> [B, D]: the layer's LayerNorm, if it has one, then the mean."""
    if layer >= len(norms.norms):
        return masked_mean(state, padding_mask)

    def pool(state):
        return masked_mean(norms(_without_padding(state, padding_mask), layer), padding_mask)

    return _recomputed(pool, state)


class LastLayer(nn.Module):
    """Reads h_L alone: what fairseq's own CTC fine-tuning does."""

    def __init__(self, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> Reading:
        read = masked_mean if self.pooled else _without_padding
        logits = self.heads(read(states[-1], padding_mask), 0)
        return Reading([logits], _certain(logits))


class WeightedSum(nn.Module):
    """Reads sum_l w_l h_l with one static w = softmax(scalars), initialised equal."""

    def __init__(self, num_layers: int, norms: LayerNorms, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(num_layers))
        self.norms = norms
        self.heads = heads
        self.pooled = pooled

    def weights(self) -> Tensor:
        """w [L], at least float32."""
        return self.scalars.softmax(0, dtype=torch.promote_types(self.scalars.dtype, torch.float32))

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> Reading:
        total = 0
        for layer, (state, weight) in enumerate(zip(states, self.weights().to(states[0].dtype))):
            if self.pooled:
                total = total + weight * _pool(self.norms, state, layer, padding_mask)
                continue

            def term(state, weight, layer=layer):
                return weight * self.norms(_without_padding(state, padding_mask), layer)

            total = total + _recomputed(term, state, weight)
        logits = self.heads(total, 0)
        return Reading([logits], _certain(logits))


class Varan(nn.Module):
    """Reads every layer with its own head, and weighs them by q(l|x)."""

    def __init__(
        self, norms: LayerNorms, posterior: LayerPosterior, heads: ProbingHeads, pooled: bool
    ):
        super().__init__()
        self.norms = norms
        self.posterior = posterior
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> Reading:
        read = self._reader(padding_mask)
        pooled, logits = zip(*(read(state, layer) for layer, state in enumerate(states)))
        means = torch.stack(pooled, dim=1)
        return Reading(list(logits), self.posterior(means, prior), means)

    def _reader(self, padding_mask: Optional[Tensor]):
        """A function (state [T, B, D], layer) -> (mean [B, D], logits [T, B, V] or [B, V])."""
        if self.pooled:

            def read_pooled(state, layer):
                mean = _pool(self.norms, state, layer, padding_mask)
                return mean, self.heads(mean, layer)

            return read_pooled

        dropout = self.training and self.heads[0][0].p > 0
        if self.norms.norms or dropout:

            def read(state, layer):
                def parts(state):
                    state = self.norms(_without_padding(state, padding_mask), layer)
                    return masked_mean(state, padding_mask), self.heads(state, layer)

                return _recomputed(parts, state)

            return read

        # Nothing stands between the state and the head's linear map: the fast way.
        valid = valid_frames(padding_mask)

        def read_fast(state, layer):
            _, linear, *rest = self.heads[layer]
            mean, logits = read_layer(state, linear.weight, linear.bias, valid)
            for module in rest:
                logits = module(logits)
            return mean, logits

        return read_fast


def _certain(logits: Tensor) -> Tensor:
    return logits.new_zeros(
        logits.shape[-2], 1, dtype=torch.promote_types(logits.dtype, torch.float32)
    )
