"""Ways of reading an encoder's layers behind one interface.

An aggregation takes the hidden states, and the prior over its K predictions, and returns
their logits with the log-probability of each. VARAN has K = L. Its rivals have K = 1
and log_q = 0, so the same objective and the same combination serve them all, and only
aggregation differs.
"""

from typing import List, Optional

import torch
from torch import Tensor, nn

from .baselines import AttentiveSum, HierarchicalConvolution, LastLayer, WeightedSum
from .fixed_posterior import PriorPosterior, StaticPosterior
from .frames import ValidFrames, on_host, valid_frames
from .fused import read_layer
from .fused_gpu import read_layers
from .heads import ProbingHeads
from .posterior import LayerPosterior
from .reading import LayerNorms, Reading

AGGREGATIONS = ("last_layer", "weighted_sum", "attentive", "hconv", "varan")
POSTERIORS = ("input", "static", "prior")


def build_aggregation(
    name: str,
    *,
    num_layers: int,
    dim: int,
    num_classes: int,
    shared_head: bool = False,
    head_dim: int = 0,
    head_activation: str = "none",
    dropout: float = 0.0,
    layer_norm: bool = False,
    posterior: str = "input",
    posterior_heads: int = 16,
    layer_embedding: bool = False,
    posterior_lr_multiplier: float = 0.1,
    posterior_centred: bool = True,
    pooled: bool = False,
) -> nn.Module:
    """An aggregation by name (one of `AGGREGATIONS`, else ValueError).

    num_layers: L. dim: width D. num_classes: V. shared_head, head_dim, head_activation,
    dropout: see `heads`. layer_norm: give layers 1 .. L-1 a LayerNorm each before anything reads
    them; layer L has passed the encoder's own last norm already. posterior: one of `POSTERIORS`,
    what VARAN's q depends on. posterior_heads, layer_embedding, posterior_lr_multiplier,
    posterior_centred: see `LayerPosterior`. pooled: heads read the mean over valid frames, one
    prediction an utterance (classification), instead of every frame (CTC).
    """
    if name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {name!r}: choose one of {', '.join(AGGREGATIONS)}")
    if posterior not in POSTERIORS:
        raise ValueError(f"unknown posterior {posterior!r}: choose one of {', '.join(POSTERIORS)}")

    def heads(layers: int = 1, width: int = dim, **shared) -> ProbingHeads:
        maps = {"head_dim": head_dim, "activation": head_activation, "dropout": dropout}
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
    fixed = {"static": StaticPosterior, "prior": PriorPosterior}
    weighs = fixed[posterior](num_layers) if posterior in fixed else network()
    return Varan(norms, weighs, heads(num_layers, shared=shared_head), pooled)


class Varan(nn.Module):
    """Reads every layer with its own head, and weighs them by q(l|x)."""

    def __init__(self, norms: LayerNorms, posterior: nn.Module, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.norms = norms
        self.posterior = posterior
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> Reading:
        valid = valid_frames(padding_mask)
        if not (self.pooled or self.norms.norms or on_host(states[0])):
            return self._read_at_once(states, valid, prior)
        read = self._read_pooled if self.pooled else self._read
        means, logits = zip(*(read(state, layer, valid) for layer, state in enumerate(states)))
        means = torch.stack(means, dim=1)
        return Reading(list(logits), self.posterior(means, prior), means)

    def _read_at_once(
        self, states: List[Tensor], valid: Optional[ValidFrames], prior: Optional[Tensor]
    ) -> Reading:
        dropouts, linears, *rest = zip(*(self.heads[layer] for layer in range(len(states))))
        p = dropouts[0].p if self.training else 0.0
        means, logits = read_layers(states, valid, linears, p)
        logits = logits.unbind(0)
        for modules in rest:
            logits = [module(each) for module, each in zip(modules, logits)]
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
