"""`fused.read_layer` for a layer with a LayerNorm: a few frames at a time, so that no copy of the
layer ever exists, clean or normed. On a CPU a piece stays in its cache, too; on a GPU, where every
piece costs its launches, there is one. See `benchmarks/heads.py`.
"""

from typing import Iterator, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .frames import cleaned, on_host, outer

PIECE_BYTES = 2**20


def layer_norm(state: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tuple[Tensor, ...]:
    """(normed, mean, reciprocal of the standard deviation)."""
    return torch.native_layer_norm(state, state.shape[-1:], weight, bias, eps)


def layer_norm_backward(
    grad: Tensor, state: Tensor, statistics: Sequence[Tensor], weight: Tensor, bias: Tensor
) -> Tuple[Tensor, ...]:
    """Gradients of (state, weight, bias)."""
    return torch.ops.aten.native_layer_norm_backward(
        grad.contiguous(), state, state.shape[-1:], *statistics, weight, bias, [True, True, True]
    )


class ReadNormed(torch.autograd.Function):
    """padding, lengths and common are of `ValidFrames`, or None, None and anything."""

    @staticmethod
    def forward(
        ctx, state, norm_weight, norm_bias, eps, weight, bias, dropout, padding, lengths, common
    ):
        ctx.eps, ctx.dropout, ctx.common = eps, dropout, common
        dtype = torch.promote_types(norm_weight.dtype, torch.float32)
        total = torch.zeros(state.shape[1:], dtype=dtype, device=state.device)
        kept = torch.empty_like(state, dtype=torch.bool) if dropout else None
        logits, statistics = [], []
        for piece, there in _pieces(state, padding, common):
            clean = cleaned(state[piece], there).to(norm_weight.dtype)
            normed, *found = layer_norm(clean, norm_weight, norm_bias, eps)
            statistics.append(found)
            total += cleaned(normed, there).sum(0, dtype=dtype)
            if weight is not None:
                if dropout:
                    normed, kept[piece] = torch.native_dropout(normed, dropout, True)
                logits.append(cleaned(F.linear(normed, weight, bias), there))
        statistics = [_joined(parts) for parts in zip(*statistics)]
        ctx.save_for_backward(
            state, norm_weight, norm_bias, weight, padding, lengths, kept, *statistics
        )
        mean = total / (len(state) if lengths is None else lengths)
        return mean.to(norm_weight.dtype), _joined(logits) if logits else None

    @staticmethod
    def backward(ctx, grad_mean, grad_logits):
        state, norm_weight, norm_bias, weight, padding, lengths, kept, *statistics = (
            ctx.saved_tensors
        )
        grad_mean = grad_mean / (len(state) if lengths is None else lengths)
        grad_mean = grad_mean.to(norm_weight.dtype)
        grad_state = torch.empty_like(state) if ctx.needs_input_grad[0] else None
        scale = 1 / (1 - ctx.dropout)
        sums = [None] * 4  # gradients of norm_weight, norm_bias, weight, bias
        for piece, there in _pieces(state, padding, ctx.common):
            clean = cleaned(state[piece], there).to(norm_weight.dtype)
            of_mean = grad_mean.expand_as(clean)
            if weight is None:
                grad, of_linear = of_mean, []
            else:
                normed = layer_norm(clean, norm_weight, norm_bias, ctx.eps)[0]
                of_logits = cleaned(grad_logits[piece].to(weight.dtype), there)
                grad = of_logits @ weight
                if kept is not None:
                    normed.mul_(kept[piece]).mul_(scale)
                    grad.mul_(kept[piece]).mul_(scale)
                grad = grad.add_(of_mean)
                of_linear = [outer(of_logits, normed), of_logits.sum((0, 1))]
            grad = cleaned(grad, there)
            of_state, *of_norm = layer_norm_backward(
                grad, clean, [each[piece] for each in statistics], norm_weight, norm_bias
            )
            if grad_state is not None:
                grad_state[piece] = of_state
            for index, found in enumerate([*of_norm, *of_linear]):
                sums[index] = found if sums[index] is None else sums[index].add_(found)
        of_norm_weight, of_norm_bias, of_weight, of_bias = sums
        return (grad_state, of_norm_weight, of_norm_bias, None, of_weight, of_bias) + (None,) * 4


def _pieces(
    state: Tensor, padding: Optional[Tensor], common: int
) -> Iterator[Tuple[slice, Optional[Tensor]]]:
    """The frames of a state [T, B, D], in order, each piece with its padding if it has any."""
    frames = len(state)
    if on_host(state):
        frames = max(1, PIECE_BYTES // (state[0].numel() * state.element_size()))
    for start in range(0, len(state), frames):
        piece = slice(start, min(start + frames, len(state)))
        clean = padding is None or piece.stop <= common
        yield piece, None if clean else padding[piece]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
