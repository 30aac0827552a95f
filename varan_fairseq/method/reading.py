"""Reading one layer: its mean for the posterior and its logits for the objective, in one
pass that keeps no copy of the state.

Written out by hand because both obvious ways are slow: cleaning the padding first
(0 * NaN is NaN) makes autograd keep a second copy of all L states, and separate pooling
sends a second full-size gradient through every state. See `benchmarks/heads.py`.
"""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ValidFrames(NamedTuple):
    """Where the T * B frames of a padded batch [T, B, ...] are valid, in four forms.

    padding: [T, B, 1] bool. index: [N], positions of the N valid frames in the flattened
    batch, utterance after utterance. offsets: [B], where each utterance begins in
    `index`. lengths: [B, 1], valid frames of each.
    """

    padding: Tensor
    index: Tensor
    offsets: Tensor
    lengths: Tensor


def valid_frames(padding_mask: Optional[Tensor]) -> Optional[ValidFrames]:
    """From a padding mask [B, T] (True = padding); None, for no padding, stays None."""
    if padding_mask is None:
        return None
    valid = ~padding_mask
    lengths = valid.sum(1)
    utterance, frame = valid.nonzero(as_tuple=True)
    return ValidFrames(
        padding=padding_mask.t().unsqueeze(-1),
        index=frame * len(valid) + utterance,
        offsets=lengths.cumsum(0) - lengths,
        lengths=lengths.unsqueeze(1),
    )


def read_layer(
    state: Tensor, weight: Tensor, bias: Tensor, valid: Optional[ValidFrames]
) -> Tuple[Tensor, Tensor]:
    """state [T, B, D], linear weight [V, D] and bias [V] -> (mean [B, D], logits [T, B, V]).

    The mean is over valid frames; logits are 0 in the padding, and neither it nor any
    gradient depends on what the padding of `state` holds.
    """
    return _ReadLayer.apply(state, weight, bias, *(valid or (None,) * 4))


class _ReadLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, state, weight, bias, padding, index, offsets, lengths):
        ctx.save_for_backward(state, weight, padding, index, lengths)
        logits = F.linear(state, weight, bias)
        if index is None:
            return state.mean(0), logits
        frames = state.reshape(-1, state.shape[-1])
        # The fused gather-and-mean of embedding bags: padding is never touched.
        mean = F.embedding_bag(index, frames, offsets, mode="mean")
        return mean, logits.masked_fill_(padding, 0)

    @staticmethod
    def backward(ctx, grad_mean, grad_logits):
        state, weight, padding, index, lengths = ctx.saved_tensors
        grad_logits = grad_logits.to(weight.dtype)  # they differ under autocast
        if index is not None:
            grad_logits = grad_logits.masked_fill(padding, 0)
        grad_state = grad_logits @ weight
        grad_mean = grad_mean.to(grad_state.dtype)
        if index is None:
            grad_state.add_(grad_mean, alpha=1 / state.shape[0])
        else:
            grad_state.addcmul_((~padding).to(grad_state.dtype), grad_mean / lengths)

        frames, grads = state.reshape(-1, state.shape[-1]), grad_logits.reshape(-1, len(weight))
        grad_bias = grads.sum(0)
        if index is not None:
            frames, grads = frames.index_select(0, index), grads.index_select(0, index)
        grad_weight = grads.t() @ frames.to(grads.dtype)
        return grad_state.to(state.dtype), grad_weight, grad_bias, None, None, None, None
