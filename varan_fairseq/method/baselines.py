"""Ways of reading the layers that end in a single head: what VARAN is compared with
(docs/method.md, "The baselines")."""

from typing import Any, List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .heads import LayerNorms, LayerOutputs, ProbingHeads, single_output
from .posterior import LayerPosterior, layer_means, masked_mean, valid_frames, valid_sum


class LastLayer(nn.Module):
    """Reads h_L alone: what fairseq's own CTC fine-tuning does."""

    def __init__(self, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> LayerOutputs:
        read = masked_mean(states[-1], padding_mask) if self.pooled else states[-1]
        return _output(self.heads, read, padding_mask)


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
    ) -> LayerOutputs:
        if self.pooled:
            means = _means(states, padding_mask, self.norms)
            total = (self.weights().to(means.dtype)[:, None] * means).sum(1)
        else:
            total = _weighted_sum(states, self.weights(), self.norms)
        return _output(self.heads, total, padding_mask)


class AttentiveSum(nn.Module):
    """Reads sum_l q_l(x) h_l, weighed for every utterance by VARAN's posterior network
    (after the attentive merging of arXiv 2406.10283)."""

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
    ) -> LayerOutputs:
        means = _means(states, padding_mask, self.norms)
        weights = self.posterior(means).exp()  # begins at equal weights, as WeightedSum
        if self.pooled:
            total = (weights.to(means.dtype).unsqueeze(-1) * means).sum(1)
        else:
            total = _weighted_sum(states, weights.t().unsqueeze(-1), self.norms)
        return _output(self.heads, total, padding_mask)


class HierarchicalConvolution(nn.Module):
    """Convolves over depth until few layers are left, frame by frame, and reads these side by side
    (the hierarchical convolutions of arXiv 2406.12209): floor(log_3 L) times, at least once, kernel
    5, stride 3, padding 2, ReLU. What is left, L' deep, has D // L' channels."""

    def __init__(
        self, num_layers: int, dim: int, norms: LayerNorms, heads: ProbingHeads, pooled: bool
    ):
        super().__init__()
        depths = self.depths(num_layers)
        widths = [dim] * (len(depths) - 1) + [dim // depths[-1]]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size=5, stride=3, padding=2) for a, b in zip(widths, widths[1:])
        )
        self.norms = norms
        self.heads = heads
        self.pooled = pooled

    @staticmethod
    def depths(num_layers: int) -> List[int]:
        """L, and how many layers are left after each convolution."""
        depths = [num_layers, -(-num_layers // 3)]
        while 3 ** len(depths) <= num_layers:
            depths.append(-(-depths[-1] // 3))
        return depths

    @classmethod
    def width(cls, num_layers: int, dim: int) -> int:
        """What the head reads."""
        left = cls.depths(num_layers)[-1]
        return dim // left * left

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> LayerOutputs:
        states = [self.norms(state, layer) for layer, state in enumerate(states)]
        for convolution in self.convolutions:
            states = _over_depth(states, convolution)
        read = torch.cat(states, dim=-1)
        if self.pooled:
            read = masked_mean(read, padding_mask)
        return _output(self.heads, read, padding_mask)


class Concatenation(nn.Module):
    """Reads all layers of a frame side by side, L * D wide: the one reading here that copies all
    states to one tensor."""

    def __init__(self, norms: LayerNorms, heads: ProbingHeads, pooled: bool):
        super().__init__()
        self.norms = norms
        self.heads = heads
        self.pooled = pooled

    def forward(
        self, states: List[Tensor], padding_mask: Optional[Tensor], prior: Optional[Tensor] = None
    ) -> LayerOutputs:
        if self.pooled:
            read = _means(states, padding_mask, self.norms).flatten(1)
        else:
            read = torch.cat([self.norms(state, layer) for layer, state in enumerate(states)], -1)
        return _output(self.heads, read, padding_mask)


def _output(heads: ProbingHeads, state: Tensor, padding_mask: Optional[Tensor]) -> LayerOutputs:
    """What the one head makes of [T, B, D], or of [B, D] if pooled."""
    return single_output(heads(state, 0, valid_frames(padding_mask, state)))


def _over_depth(states: List[Tensor], convolution: Any) -> List[Tensor]:
    """ReLU of a convolution over depth of L states [T, B, D], which are not stacked for it."""
    convolved = []
    for start in range(-2, len(states) - 2, 3):
        total = convolution.bias
        for offset in range(max(0, -start), min(5, len(states) - start)):
            total = total + F.linear(states[start + offset], convolution.weight[:, :, offset])
        convolved.append(total.relu())
    return convolved


def _weighted_sum(states: List[Tensor], weights: Tensor, norms: LayerNorms) -> Tensor:
    """sum_l w_l norm_l(h_l) of L states [T, B, D]. weights: [L], or [L, B, 1], an utterance's
    own."""

    def add(total: Tensor, state: Tensor, weight: Tensor, layer: int) -> Tensor:
        return torch.addcmul(total, norms(state, layer), weight)

    total = torch.zeros_like(states[0])
    for layer, (state, weight) in enumerate(zip(states, weights.to(total.dtype))):
        total = norms.recomputed(layer, add, total, state, weight, layer)
    return total


def _means(states: List[Tensor], padding_mask: Optional[Tensor], norms: LayerNorms) -> Tensor:
    """[B, L, D] over valid frames."""
    valid = valid_frames(padding_mask, states[0])

    def total(state: Tensor, layer: int) -> Tensor:
        return valid_sum(norms(state, layer), valid)

    totals = [norms.recomputed(layer, total, state, layer) for layer, state in enumerate(states)]
    return layer_means(totals, states[0], valid)
