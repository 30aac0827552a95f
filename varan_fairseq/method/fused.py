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

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ValidFrames(NamedTuple):
    """Where the frames of a padded batch [T, B, ...] are valid.

    padding: [T, B, 1] bool. lengths: [B, 1], valid frames of each utterance. On a CPU, where
    asking for them waits for nothing, and None and 0 on a GPU: index, [N] positions of the N
    valid frames in the flattened batch, utterance after utterance; offsets, [B], where each
    utterance begins in it; common, leading frames that are valid in every utterance.
    """

    padding: Tensor
    lengths: Tensor
    index: Optional[Tensor]
    offsets: Optional[Tensor]
    common: int


def valid_frames(padding_mask: Optional[Tensor]) -> Optional[ValidFrames]:
    """From a padding mask [B, T] (True = padding); None, for no padding, stays None."""
    if padding_mask is None:
        return None
    valid = ~padding_mask
    lengths = valid.sum(1)
    padding = padding_mask.t().unsqueeze(-1)
    if not on_host(padding_mask):
        return ValidFrames(padding, lengths.unsqueeze(1), None, None, 0)
    utterance, frame = valid.nonzero(as_tuple=True)
    index, offsets = frame * len(valid) + utterance, lengths.cumsum(0) - lengths
    return ValidFrames(padding, lengths.unsqueeze(1), index, offsets, int(lengths.min()))


def on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


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
    norm = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    linear = (None, None) if linear is None else (linear.weight, linear.bias)
    return _ReadLayer.apply(state, *norm, *linear, dropout, *(valid or (None,) * 5))


class _ReadLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, state, norm_weight, norm_bias, eps, weight, bias, dropout, padding, lengths, *counted
    ):
        index, offsets, ctx.common = counted
        ctx.eps, ctx.dropout = eps, dropout
        normed, statistics = state, ()
        if norm_weight is not None:
            clean = _clean(state, padding).to(norm_weight.dtype)
            normed, *statistics = _norm(clean, norm_weight, norm_bias, eps)
        mean = _mean(normed, padding, lengths, index, offsets)
        kept, logits = None, None
        if weight is not None:
            if dropout:
                normed, kept = torch.native_dropout(normed, dropout, True)
            logits = F.linear(normed, weight, bias)
            if padding is not None:
                logits = logits.masked_fill_(padding, 0)
        ctx.save_for_backward(
            state, norm_weight, norm_bias, weight, padding, lengths, kept, *statistics
        )
        return mean, logits

    @staticmethod
    def backward(ctx, grad_mean, grad_logits):
        state, norm_weight, norm_bias, weight, padding, lengths, kept, *statistics = (
            ctx.saved_tensors
        )
        common = len(state) if padding is None else ctx.common
        clean = normed = state
        if norm_weight is not None:
            clean = _clean(state, padding).to(norm_weight.dtype)
            normed, common = _norm(clean, norm_weight, norm_bias, ctx.eps)[0], len(state)
        scale = 1 / (1 - ctx.dropout)
        grads = [None] * 5
        grad_state = None
        if weight is not None:
            grad_logits = grad_logits.to(weight.dtype)  # they differ under autocast
            if padding is not None:
                grad_logits = grad_logits.masked_fill(padding, 0)
            read = normed if kept is None else normed * kept * scale
            grads[3] = _outer(grad_logits[:common], read[:common])
            if common < len(state):  # only frames that some utterance lacks need cleaning
                rest = read[common:].masked_fill(padding[common:], 0)
                grads[3] += _outer(grad_logits[common:], rest)
            grads[4] = grad_logits.sum((0, 1))
        if any(ctx.needs_input_grad[:3]):  # not so for a frozen encoder without norms
            if weight is None:
                grad_state = torch.zeros_like(normed)
            else:
                grad_state = grad_logits @ weight
                if kept is not None:
                    grad_state.mul_(kept).mul_(scale)
            grad_mean = grad_mean.to(grad_state.dtype)
            if padding is None:
                grad_state.add_(grad_mean, alpha=1 / len(state))
            else:
                grad_state.addcmul_((~padding).to(grad_state.dtype), grad_mean / lengths)
            if norm_weight is not None:
                grad_state, grads[0], grads[1] = _norm_backward(
                    grad_state, clean, statistics, norm_weight, norm_bias
                )
            grad_state = grad_state.to(state.dtype)
        norm_grads = (grads[0], grads[1], None)
        return (grad_state, *norm_grads, grads[3], grads[4]) + (None,) * 6


def weighted_sum(
    states: List[Tensor],
    weights: Tensor,
    norms: List[Optional[nn.LayerNorm]],
    padding: Optional[Tensor],
) -> Tensor:
    """sum_l w_l norm_l(state_l) of L states [T, B, D], 0 in the padding. weights: [L]. norms: of
    each layer, or None. padding: [T, B, 1] bool, or None."""
    parameters = [p for norm in norms if norm is not None for p in (norm.weight, norm.bias)]
    eps = [None if norm is None else norm.eps for norm in norms]
    return _WeightedSum.apply(weights, padding, eps, *states, *parameters)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, padding, eps, *tensors):
        ctx.eps = eps
        total = torch.zeros_like(tensors[0])
        for weight, (state, norm) in zip(weights, _with_norms(tensors, eps)):
            term = _clean(state, padding)
            if norm is not None:
                term = _norm(term.to(norm[0].dtype), *norm)[0]
            total.addcmul_(term.to(total.dtype), weight.to(total.dtype))
        if padding is not None:
            total.masked_fill_(padding, 0)
        ctx.save_for_backward(weights, padding, *tensors)
        return total

    @staticmethod
    def backward(ctx, grad):
        weights, padding, *tensors = ctx.saved_tensors
        if padding is not None:
            grad = grad.masked_fill(padding, 0)
        of_weights, of_states, of_norms = [], [], []
        trained = ctx.needs_input_grad[3:]  # states may be of a frozen encoder
        layers = zip(weights, _with_norms(tensors, ctx.eps), trained)
        for weight, (state, norm), of_state in layers:
            term = clean = _clean(state, padding)
            statistics = ()
            if norm is not None:
                clean = clean.to(norm[0].dtype)
                term, *statistics = _norm(clean, *norm)
            of_weights.append((grad * term).sum(dtype=weights.dtype))
            if not of_state and norm is None:
                of_states.append(None)
                continue
            grad_state = grad * weight.to(grad.dtype)
            if norm is not None:
                grad_state, *of_norm = _norm_backward(
                    grad_state.to(clean.dtype), clean, statistics, *norm[:2]
                )
                of_norms += of_norm
            of_states.append(grad_state.to(state.dtype))
        return (torch.stack(of_weights), None, None, *of_states, *of_norms)


def _with_norms(tensors, eps):
    """(state, (weight, bias, eps) or None) of each layer."""
    states, parameters = tensors[: len(eps)], iter(tensors[len(eps) :])
    for state, each in zip(states, eps):
        norm = None if each is None else (next(parameters), next(parameters), each)
        yield state, norm


def _clean(state: Tensor, padding: Optional[Tensor]) -> Tensor:
    return state if padding is None else state.masked_fill(padding, 0)


def _mean(state, padding, lengths, index, offsets) -> Tensor:
    """[T, B, D] -> [B, D]. Padding is not touched."""
    if padding is None:
        return state.mean(0)
    if index is not None:  # the fused gather-and-mean of embedding bags
        return F.embedding_bag(index, state.reshape(-1, state.shape[-1]), offsets, mode="mean")
    dtype = torch.promote_types(state.dtype, torch.float32)
    return (_clean(state, padding).sum(0, dtype=dtype) / lengths).to(state.dtype)


def _norm(state: Tensor, weight: Tensor, bias: Tensor, eps: float):
    """(normed, mean, reciprocal of the standard deviation)."""
    return torch.native_layer_norm(state, state.shape[-1:], weight, bias, eps)


def _norm_backward(grad, state, statistics, weight, bias):
    return torch.ops.aten.native_layer_norm_backward(
        grad.contiguous(), state, state.shape[-1:], *statistics, weight, bias, [True, True, True]
    )


def _outer(grad: Tensor, state: Tensor) -> Tensor:
    """Sum over frames and utterances: [T, B, V], [T, B, D] -> [V, D]."""
    return grad.flatten(0, 1).t() @ state.flatten(0, 1).to(grad.dtype)
