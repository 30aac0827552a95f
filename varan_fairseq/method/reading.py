"""What an aggregation returns, and what several of them share."""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor, nn


class Reading(NamedTuple):
    """logits: K tensors [T, B, V], or [B, V] of a pooled aggregation. log_q: [B, K], at least
    float32. means: [B, K, D], what the posterior saw; None without one."""

    logits: List[Tensor]
    log_q: Tensor
    means: Optional[Tensor] = None


class LayerNorms(nn.Module):
    """The LayerNorm of each layer but the last, or none at all."""

    def __init__(self, dim: int, num_layers: int, enabled: bool):
        super().__init__()
        norms = [nn.LayerNorm(dim) for _ in range(num_layers - 1)] if enabled else []
        self.norms = nn.ModuleList(norms)

    def __getitem__(self, layer: int) -> Optional[nn.LayerNorm]:
        """That of the layer with this 0-based index, if it has one."""
        return self.norms[layer] if layer < len(self.norms) else None


def certain(logits: Tensor) -> Reading:
    """Of an aggregation with a single prediction, [T, B, V] or [B, V]."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return Reading([logits], logits.new_zeros(logits.shape[-2], 1, dtype=dtype))
