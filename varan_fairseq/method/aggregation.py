"""Ways of reading an encoder's layers behind one interface.

An aggregation takes the hidden states, and the prior over its K predictions, and returns
their logits with the log-probability of each. VARAN has K = L. Its rivals have K = 1
and log_q = 0, so the same objective and the same combination serve them all, and only
aggregation differs.
"""

from typing import Any, Dict, List, Optional, Tuple, Union

from torch import Tensor, nn

from . import kernels
from .baselines import (
    AttentiveSum,
    Concatenation,
    HierarchicalConvolution,
    LastLayer,
    WeightedSum,
)
from .choices import AGGREGATIONS, POSTERIORS
from .heads import LayerNorms, LayerOutputs, ProbingHeads
from .kernels.read_layers import can_read, read_layers
from .posterior import (
    LayerPosterior,
    PriorPosterior,
    StaticPosterior,
    layer_means,
    valid_frames,
    valid_sum,
)

Posterior = Union[LayerPosterior, StaticPosterior, PriorPosterior]


def build_aggregation(
    name: str,
    *,
    num_layers: int,
    dim: int,
    num_classes: int,
    shared_head: bool = False,
    head_dim: int = 0,
    head_activation: str = "none",
    head_context: int = 0,
    dropout: float = 0.0,
    layer_norm: bool = False,
    posterior: str = "input",
    posterior_heads: int = 16,
    layer_embedding: bool = False,
    posterior_lr_multiplier: float = 0.1,
    posterior_centred: bool = True,
    pooled: bool = False,
) -> nn.Module:
    """An aggregation by name.

    Args:
        name: one of `AGGREGATIONS`.
        num_layers: L.
        dim: width D.
        num_classes: V.
        shared_head, head_dim, head_activation, head_context, dropout: see `heads`.
        layer_norm: give layers 1 .. L-1 a LayerNorm each before anything reads them; layer L has
            passed the encoder's own last norm already.
        posterior: one of `POSTERIORS`, what VARAN's q depends on.
        posterior_heads, layer_embedding, posterior_lr_multiplier, posterior_centred: see
            `LayerPosterior`.
        pooled: heads read the mean over valid frames, one prediction an utterance
            (classification), instead of every frame (CTC).

    Returns:
        A module: (L states [T, B, D], padding_mask [B, T] or None, prior [K]) -> `LayerOutputs`.

    Raises:
        ValueError: for an unknown name or posterior, or pooled heads with a context.
    """
    if name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {name!r}: choose one of {', '.join(AGGREGATIONS)}")
    if posterior not in POSTERIORS:
        raise ValueError(f"unknown posterior {posterior!r}: choose one of {', '.join(POSTERIORS)}")
    if pooled and head_context:
        raise ValueError(f"head_context={head_context}: one prediction an utterance has no frames")

    def heads(layers: int = 1, width: int = dim, **shared: Any) -> ProbingHeads:
        maps: Dict[str, Any] = {
            "head_dim": head_dim,
            "activation": head_activation,
            "context": head_context,
            "dropout": dropout,
        }
        return ProbingHeads(width, num_classes, layers, **maps, **shared)

    def network() -> LayerPosterior:
        return LayerPosterior(
            dim,
            posterior_heads,
            num_layers if layer_embedding else 0,
            lr_multiplier=posterior_lr_multiplier,
            centred=posterior_centred,
        )

    if name == "last_layer":
        return LastLayer(heads(), pooled)
    norms = LayerNorms(dim, num_layers, layer_norm)
    if name == "weighted_sum":
        return WeightedSum(num_layers, norms, heads(), pooled)
    if name == "attentive":
        return AttentiveSum(norms, network(), heads(), pooled)
    if name == "hconv":
        read = HierarchicalConvolution.width(num_layers, dim)
        return HierarchicalConvolution(num_layers, dim, norms, heads(width=read), pooled)
    if name == "concat":
        return Concatenation(norms, heads(width=num_layers * dim), pooled)
    q: Any = {
        "input": network,
        "static": lambda: StaticPosterior(num_layers),
        "prior": PriorPosterior,
    }[posterior]()
    return Varan(norms, q, heads(num_layers, shared=shared_head), pooled)


class Varan(nn.Module):
    """Reads every layer with its own head, and weighs them by q(l|x)."""

    def __init__(self, norms: LayerNorms, posterior: Posterior, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.norms = norms
        self.posterior = posterior
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> LayerOutputs:
        """Reads a batch.

        Args:
            states: L tensors [T, B, D], finite in the padding too.
            padding_mask: [B, T] bool, True = padding, or None.
            prior: [L], or None for a uniform one.
        """
        if not self.pooled and not kernels.on_host(states[0]):
            heads = [self.heads[layer] for layer in range(len(states))]
            if can_read(self.norms.norms, heads):
                means, logits = read_layers(states, padding_mask, heads)
                return LayerOutputs(logits, self.posterior(means, prior), means)
        valid = valid_frames(padding_mask, states[0])
        read = [self._read(layer, state, valid) for layer, state in enumerate(states)]
        means = layer_means([total for total, _ in read], states[0], valid)
        return LayerOutputs([logits for _, logits in read], self.posterior(means, prior), means)

    def keep_lowest(self, layers: int) -> None:
        """Forgets every layer above the lowest `layers`; the last one left passes through no
        LayerNorm of its own."""
        self.norms.norms = self.norms.norms[: layers - 1]
        self.heads.heads = self.heads.heads[:layers]
        self.posterior.keep_lowest(layers)

    def _read(self, layer: int, state: Tensor, valid: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        """state [T, B, D] -> (sum over valid frames [B, D], logits [T, B, V], or [B, V] if
        pooled)."""

        def read(state: Tensor) -> Tuple[Tensor, Tensor]:
            normed = self.norms(state, layer)
            if self.pooled:
                total = valid_sum(normed, valid)
                mean = layer_means([total], normed, valid)[:, 0]
                return total, self.heads(mean, layer)
            logits = self.heads(normed, layer, valid)  # first: its gradient is then added in place
            return valid_sum(normed, valid), logits  # last: what nothing saves is not recomputed

        return self.norms.recomputed(layer, read, state)
