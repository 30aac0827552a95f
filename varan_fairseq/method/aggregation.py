"""Three ways of reading an encoder's layers behind one interface.

An aggregation takes the hidden states, and the prior over its K predictions, and returns
their logits with the log-probability of each. VARAN has K = L. The baselines have K = 1
and log_q = 0, so the same objective and the same combination serve all three, and only
aggregation differs.
"""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from .frames import ValidFrames, cleaned, padding_of, valid_frames
from .fused import read_layer
from .heads import ProbingHeads
from .posterior import LayerPosterior, masked_mean
from .weighted import weighted_sum

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

    def __getitem__(self, layer: int) -> Optional[nn.LayerNorm]:
        """That of the layer with this 0-based index, if it has one."""
        return self.norms[layer] if layer < len(self.norms) else None


class LastLayer(nn.Module):
    """Reads h_L alone: what fairseq's own CTC fine-tuning does."""

    def __init__(self, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> Reading:
        if self.pooled:
            read = masked_mean(states[-1], padding_mask)
        else:
            read = cleaned(states[-1], padding_of(padding_mask))
        logits = self.heads(read, 0)
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
        norms = [self.norms[layer] for layer in range(len(states))]
        if self.pooled:
            valid = valid_frames(padding_mask)
            means = [read_layer(each, valid, norm)[0] for each, norm in zip(states, norms)]
            total = (self.weights().to(means[0].dtype)[:, None, None] * torch.stack(means)).sum(0)
        else:
            total = weighted_sum(states, self.weights(), norms, padding_of(padding_mask))
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
        valid = valid_frames(padding_mask)
        read = self._read_pooled if self.pooled else self._read
        means, logits = zip(*(read(state, layer, valid) for layer, state in enumerate(states)))
        means = torch.stack(means, dim=1)
        return Reading(list(logits), self.posterior(means, prior), means)

    def _read(self, state: Tensor, layer: int, valid: Optional[ValidFrames]):
        """[T, B, D] -> (mean [B, D], logits [T, B, V])."""
        dropout, linear, *rest = self.heads[layer]
        p = dropout.p if self.training else 0.0
        mean, logits = read_layer(state, valid, self.norms[layer], linear, p)
        for module in rest:
            logits = module(logits)
        return mean, logits

    def _read_pooled(self, state: Tensor, layer: int, valid: Optional[ValidFrames]):
        """[T, B, D] -> (mean [B, D], logits [B, V])."""
        mean, _ = read_layer(state, valid, self.norms[layer])
        return mean, self.heads(mean, layer)


def _certain(logits: Tensor) -> Tensor:
    return logits.new_zeros(
        logits.shape[-2], 1, dtype=torch.promote_types(logits.dtype, torch.float32)
    )
