"""A sum of layers without keeping what goes into it."""

from typing import List, Optional

import torch
from torch import Tensor, nn

from .frames import cleaned
from .normed import layer_norm, layer_norm_backward


def weighted_sum(
    states: List[Tensor],
    weights: Tensor,
    norms: List[Optional[nn.LayerNorm]],
    padding: Optional[Tensor],
) -> Tensor:
    """sum_l w_l norm_l(state_l) of L states [T, B, D], 0 in the padding. weights: [L], or [L, B],
    an utterance's own. norms: of each layer, or None. padding: [T, B, 1] bool, or None."""
    parameters = [p for norm in norms if norm is not None for p in (norm.weight, norm.bias)]
    eps = [None if norm is None else norm.eps for norm in norms]
    return _WeightedSum.apply(weights, padding, eps, *states, *parameters)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, padding, eps, *tensors):
        ctx.eps = eps
        total = torch.zeros_like(tensors[0])
        for weight, (state, norm) in zip(weights, _with_norms(tensors, eps)):
            term = cleaned(state, padding)
            if norm is not None:
                term = layer_norm(term.to(norm[0].dtype), *norm)[0]
            total.addcmul_(term.to(total.dtype), weight.to(total.dtype).unsqueeze(-1))
        if padding is not None:
            total.masked_fill_(padding, 0)
        ctx.save_for_backward(weights, padding, *tensors)
        return total

    @staticmethod
    def backward(ctx, grad):
        weights, padding, *tensors = ctx.saved_tensors
        grad = cleaned(grad, padding)
        of_weights, of_states, of_norms = [], [], []
        trained = ctx.needs_input_grad[3:]  # states may be of a frozen encoder
        layers = zip(weights, _with_norms(tensors, ctx.eps), trained)
        for weight, (state, norm), of_state in layers:
            term = clean = cleaned(state, padding)
            statistics = ()
            if norm is not None:
                clean = clean.to(norm[0].dtype)
                term, *statistics = layer_norm(clean, *norm)
            summed = (0, 2) if weight.dim() else (0, 1, 2)
            of_weights.append((grad * term).sum(summed, dtype=weights.dtype))
            if not of_state and norm is None:
                of_states.append(None)
                continue
            grad_state = grad * weight.to(grad.dtype).unsqueeze(-1)
            if norm is not None:
                grad_state, *of_norm = layer_norm_backward(
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
