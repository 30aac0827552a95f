"""Losses of every layer for numbers instead of classes (docs/method.md, "What training
minimises")."""

from typing import List

import torch
from torch import Tensor


def layerwise_squared_error(outputs: List[Tensor], targets: Tensor) -> Tensor:
    """Half the squared error of every utterance at every layer, summed over its D numbers: the negative
    log-likelihood of a normal distribution of variance 1 around the output, up to a constant.

    Args:
        outputs: L tensors [B, D], any float dtype.
        targets: [B, D].

    Returns:
        [B, L], at least float32.
    """
    stacked = _stacked(outputs)
    return (stacked - targets.to(stacked).unsqueeze(1)).square().sum(-1) / 2


def layerwise_concordance(outputs: List[Tensor], targets: Tensor) -> Tensor:
    """1 - CCC of every layer over the batch, summed over its D numbers. CCC is a statistic of a batch,
    so all utterances have the same value, and the posterior learns from it which layers are good, not
    for whom.

    Args:
        outputs: L tensors [B, D], any float dtype.
        targets: [B, D].

    Returns:
        [B, L], at least float32: 1 in a batch of one utterance, whose CCC is 0.
    """
    p = _stacked(outputs)
    y = targets.to(p).unsqueeze(1)
    apart_p, apart_y = p - p.mean(0), y - y.mean(0)
    covariance = (apart_p * apart_y).mean(0)
    total = apart_p.square().mean(0) + apart_y.square().mean(0) + (p.mean(0) - y.mean(0)).square()
    ccc = 2 * covariance / total.clamp(min=torch.finfo(total.dtype).tiny)
    return (1 - ccc).sum(-1).expand(len(p), -1)


def mixture_mean(outputs: List[Tensor], log_q: Tensor) -> Tensor:
    """Mean of the mixture sum_l q_l N(output_l, 1) of the layers. outputs: L tensors [B, D]. log_q: [B,
    L]. Returns [B, D], at least float32."""
    return (log_q.exp().unsqueeze(-1) * _stacked(outputs)).sum(1)


def _stacked(outputs: List[Tensor]) -> Tensor:
    """[B, L, D]."""
    stacked = torch.stack(outputs, dim=1)
    return stacked.to(torch.promote_types(stacked.dtype, torch.float32))
