"""Reading layers without keeping a copy of their states. What is computed, for a padding mask
[B, T]:

    clean = state.masked_fill(padding_mask.t().unsqueeze(-1), 0)  # 0 * NaN is NaN
    normed = layer_norm(clean)                                    # if the layer has one
    mean = normed.sum(0) / (~padding_mask).sum(1, keepdim=True)   # over valid frames
    logits = F.linear(dropout(normed), weight, bias)

(but logits are 0 in the padding). Written out by hand because that is slow: autograd keeps
`clean` and `normed`, copies of all L states, and the mean sends a second full-size gradient
through every state. See `benchmarks/heads.py`.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frames import ValidFrames, cleaned, mean_of_valid, outer
from .normed import ReadNormed


def read_layer(
    state: Tensor,
    valid: Optional[ValidFrames],
    norm: Optional[nn.LayerNorm] = None,
    linear: Optional[nn.Linear] = None,
    dropout: float = 0.0,
) -> Tuple[Tensor, Optional[Tensor]]:
    """state [T, B, D] -> (mean [B, D] over valid frames, logits [T, B, V], 0 in the padding, or
    None without `linear`). Neither they nor any gradient depend on what the padding of `state`
    holds. dropout: of what `linear` reads, not of the mean."""
    linear = (None, None) if linear is None else (linear.weight, linear.bias)
    valid = valid or (None,) * 5
    if norm is None:
        return _Read.apply(state, *linear, dropout, *valid)
    norm = (norm.weight, norm.bias, norm.eps)
    return ReadNormed.apply(state, *norm, *linear, dropout, *valid[:2], valid[-1])


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx, state, weight, bias, dropout, padding, lengths, *counted):
        index, offsets, ctx.common = counted
        ctx.dropout = dropout
        mean = mean_of_valid(state, padding, lengths, index, offsets)
        kept, logits = None, None
        if weight is not None:
            read = state
            if dropout:
                read, kept = torch.native_dropout(state, dropout, True)
            logits = F.linear(read, weight, bias)
            if padding is not None:
                logits = logits.masked_fill_(padding, 0)
        ctx.save_for_backward(state, weight, padding, lengths, kept)
        return mean, logits

    @staticmethod
    def backward(ctx, grad_mean, grad_logits):
        state, weight, padding, lengths, kept = ctx.saved_tensors
        common = len(state) if padding is None else ctx.common
        scale = 1 / (1 - ctx.dropout)
        grad_state, grad_weight, grad_bias = None, None, None
        if weight is not None:
            grad_logits = cleaned(grad_logits.to(weight.dtype), padding)  # autocast: they differ
            read = state if kept is None else state * kept * scale
            grad_weight = outer(grad_logits[:common], read[:common])
            if common < len(state):  # only frames that some utterance lacks need cleaning
                rest = cleaned(read[common:], padding[common:])
                grad_weight += outer(grad_logits[common:], rest)
            grad_bias = grad_logits.sum((0, 1))
        if ctx.needs_input_grad[0]:  # not so for a frozen encoder
            if weight is None:
                grad_state = torch.zeros_like(state)
            else:
                grad_state = grad_logits @ weight
                if kept is not None:
                    grad_state.mul_(kept).mul_(scale)
            grad_mean = grad_mean.to(grad_state.dtype)
            if padding is None:
                grad_state.add_(grad_mean, alpha=1 / len(state))
            else:
                grad_state.addcmul_((~padding).to(grad_state.dtype), grad_mean / lengths)
            grad_state = grad_state.to(state.dtype)
        return (grad_state, grad_weight, grad_bias) + (None,) * 6
