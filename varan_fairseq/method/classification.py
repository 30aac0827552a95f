"""Cross-entropy of every layer, per utterance (docs/method.md, "What training minimises")."""

from typing import List, Optional

import torch
from torch import Tensor
from torch.nn import functional as F


def layerwise_cross_entropy(
    logits: List[Tensor],
    targets: Tensor,
    class_weights: Optional[Tensor] = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of every utterance at every layer. Not averaged over the batch: the posterior
    must see which layer was right for which utterance.

    Args:
        logits: L tensors [B, C], any float dtype.
        targets: [B] long, 0 .. C - 1.
        class_weights: [C], as in `torch.nn.functional.cross_entropy`, without its division by the
            sum of the weights.
        label_smoothing: as there.

    Returns:
        [B, L], at least float32.
    """
    stacked = torch.stack(logits, dim=2)
    stacked = stacked.to(torch.promote_types(stacked.dtype, torch.float32))
    return F.cross_entropy(
        stacked,
        targets.unsqueeze(1).expand(-1, len(logits)),
        weight=None if class_weights is None else class_weights.to(stacked),
        label_smoothing=label_smoothing,
        reduction="none",
    )
