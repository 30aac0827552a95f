"""Ways of reading the layers that end in a single head: what VARAN is compared with
(method.md, "Rivals, for comparison")."""

from typing import List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frames import cleaned, padding_of, valid_frames
from .fused import read_layer
from .heads import ProbingHeads
from .posterior import LayerPosterior, masked_mean
from .reading import LayerNorms, Reading, certain
from .weighted import weighted_sum


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
        return certain(self.heads(read, 0))


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
        if self.pooled:
            means = _means(states, padding_mask, self.norms)
            total = (self.weights().to(means.dtype)[:, None] * means).sum(1)
        else:
            norms = [self.norms[layer] for layer in range(len(states))]
            total = weighted_sum(states, self.weights(), norms, padding_of(padding_mask))
        return certain(self.heads(total, 0))


class AttentiveSum(nn.Module):
    """Reads sum_l q_l(x) h_l, weighed anew for every utterance by VARAN's posterior network
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
    ) -> Reading:
        means = _means(states, padding_mask, self.norms)
        weights = self.posterior(means).exp()  # begins at equal weights, as WeightedSum
        if self.pooled:
            total = (weights.to(means.dtype).unsqueeze(-1) * means).sum(1)
        else:
            norms = [self.norms[layer] for layer in range(len(states))]
            total = weighted_sum(states, weights.t(), norms, padding_of(padding_mask))
        return certain(self.heads(total, 0))


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
            nn.Conv1d(*each, kernel_size=5, stride=3, padding=2) for each in zip(widths, widths[1:])
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
    ) -> Reading:
        padding = padding_of(padding_mask)
        states = [cleaned(state, padding) for state in states]
        for layer in range(len(states)):
            norm = self.norms[layer]
            states[layer] = states[layer] if norm is None else norm(states[layer])
        for convolution in self.convolutions:
            states = _over_depth(states, convolution)
        read = torch.cat(states, dim=-1)
        if self.pooled:
            read = masked_mean(read, padding_mask)
        return certain(self.heads(read, 0))


def _over_depth(states: List[Tensor], convolution: nn.Conv1d) -> List[Tensor]:
    """ReLU of a convolution over depth of L states [T, B, D], which are not stacked for it."""
    found = []
    for start in range(-2, len(states) - 2, 3):
        total = convolution.bias
        for offset in range(max(0, -start), min(5, len(states) - start)):
            total = total + F.linear(states[start + offset], convolution.weight[:, :, offset])
        found.append(total.relu())
    return found


def _means(states: List[Tensor], padding_mask: Optional[Tensor], norms: LayerNorms) -> Tensor:
    """[B, L, D] over valid frames."""
    valid = valid_frames(padding_mask)
    means = (read_layer(state, valid, norms[layer])[0] for layer, state in enumerate(states))
    return torch.stack(list(means), dim=1)
