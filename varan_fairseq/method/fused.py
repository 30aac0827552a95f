"""Reading one layer: its mean for the posterior and its logits for the objective, in one
pass that keeps no copy of the state. What it computes, for a padding mask [B, T]:

    clean = state.masked_fill(padding_mask.t().unsqueeze(-1), 0)  # 0 * NaN is NaN
    mean = clean.sum(0) / (~padding_mask).sum(1, keepdim=True)
    logits = F.linear(clean, weight, bias)

(but logits are 0 in the padding). Written out by hand because that is slow: autograd keeps
`clean`, a second copy of all L states, and the mean sends a second full-size gradient through
every state. See `benchmarks/heads.py`.
"""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ValidFrames(NamedTuple):
    """Where the T * B frames of a padded batch [T, B, ...] are valid, in four forms.

    padding: [T, B, 1] bool. index: [N], positions of the N valid frames in the flattened
    batch, utterance after utterance. offsets: [B], where each utterance begins in
    `index`. lengths: [B, 1], valid frames of each. common: number of leading frames that
    are valid in every utterance.
    """

    padding: Tensor
    index: Tensor
    offsets: Tensor
    lengths: Tensor
    common: int


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
        common=int(lengths.min()),
    )


def read_layer(
    state: Tensor, weight: Tensor, bias: Tensor, valid: Optional[ValidFrames]
) -> Tuple[Tensor, Tensor]:
    """state [T, B, D], linear weight [V, D] and bias [V] -> (mean [B, D], logits [T, B, V]).

    The mean is over valid frames; logits are 0 in the padding, and neither it nor any
    gradient depends on what the padding of `state` holds.
    """
    return _ReadLayer.apply(state, weight, bias, *(valid or (None,) * 5))


class _ReadLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, state, weight, bias, padding, index, offsets, lengths, common):
        ctx.save_for_backward(state, weight, padding, lengths)
        ctx.common = common
        logits = F.linear(state, weight, bias)
        if index is None:
            return state.mean(0), logits
        frames = state.reshape(-1, state.shape[-1])
        # The fused gather-and-mean of embedding bags: padding is never touched.
        mean = F.embedding_bag(index, frames, offsets, mode="mean")
        return mean, logits.masked_fill_(padding, 0)

    @staticmethod
    def backward(ctx, grad_mean, grad_logits):
        state, weight, padding, lengths = ctx.saved_tensors
        grad_logits = grad_logits.to(weight.dtype)  # they differ under autocast
        if padding is not None:
            grad_logits = grad_logits.masked_fill(padding, 0)
        grad_state = None
        if ctx.needs_input_grad[0]:  # not so for a frozen encoder
            grad_state = grad_logits @ weight
            grad_mean = grad_mean.to(grad_state.dtype)
            if padding is None:
                grad_state.add_(grad_mean, alpha=1 / len(state))
            else:
                grad_state.addcmul_((~padding).to(grad_state.dtype), grad_mean / lengths)
            grad_state = grad_state.to(state.dtype)

        common = len(state) if padding is None else ctx.common
        grad_weight = _outer(grad_logits[:common], state[:common])
        if common < len(state):  # only frames that some utterance lacks need cleaning
            rest = state[common:].masked_fill(padding[common:], 0)
            grad_weight += _outer(grad_logits[common:], rest)
        grad_bias = grad_logits.sum((0, 1))
        return (grad_state, grad_weight, grad_bias) + (None,) * 5


def _outer(grad: Tensor, state: Tensor) -> Tensor:
    """Sum over frames and utterances: [T, B, V], [T, B, D] -> [V, D]."""
    return grad.flatten(0, 1).t() @ state.flatten(0, 1).to(grad.dtype)
