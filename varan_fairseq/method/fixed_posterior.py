"""q(l|x) that does not see the input: what the posterior network is compared with."""

from typing import Optional

import torch
from torch import Tensor, nn

from .posterior import log_prior


class PriorPosterior(nn.Module):
    """q = p. num_layers: L, which nothing is learned of."""

    def __init__(self, num_layers: int):
        super().__init__()

    def forward(self, pooled: Tensor, prior: Optional[Tensor] = None) -> Tensor:
        """pooled: [B, L, D], of which only the shape counts. prior: [L], or None for a uniform
        one. Returns log q [B, L], at least float32."""
        batch, layers, _ = pooled.shape
        score = pooled.new_zeros(layers, dtype=torch.promote_types(pooled.dtype, torch.float32))
        if prior is not None:
            score = score + log_prior(prior)
        return score.log_softmax(-1).expand(batch, layers)


class StaticPosterior(nn.Module):
    """q = softmax(scalars + log p), learned, the same for every input."""

    def __init__(self, num_layers: int):
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(num_layers))

    def forward(self, pooled: Tensor, prior: Optional[Tensor] = None) -> Tensor:
        """As of `PriorPosterior`."""
        batch, layers, _ = pooled.shape
        score = self.scalars[:layers].to(torch.promote_types(self.scalars.dtype, torch.float32))
        if prior is not None:
            score = score + log_prior(prior)
        return score.log_softmax(-1).expand(batch, layers)
