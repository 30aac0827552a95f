"""Means and logits of all layers in one step of autograd, for a GPU. For each layer:

    mean = masked_mean(state, padding_mask)
    logits = F.linear(dropout(state), weight, bias)

A GPU finishes each small operation before a CPU can launch the next, so what counts is how many
there are. No copy of all states exists. See `benchmarks/step.py`.
"""

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def can_read(norms: nn.ModuleList, heads: Sequence[Any]) -> bool:
    """Whether `read_layers` can take the place of calling each head: no layer has a LayerNorm, and
    heads are the package's own, without hooks."""
    if len(norms):
        return False
    parts: List[Any] = [part for head in heads for part in head.modules()]
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    return not hooks and all(_is_ours(head) for head in heads)


def _is_ours(head: Any) -> bool:
    return type(head) is nn.Sequential and list(map(type, head))[:2] == [
        nn.Dropout,
        nn.Linear,
    ]


def read_layers(
    states: List[Tensor], padding_mask: Optional[Tensor], heads: Sequence[Any]
) -> Tuple[Tensor, List[Tensor]]:
    """L states [T, B, D], padding mask [B, T], and the head of each layer (dropout, linear, ..) ->
    (means [B, L, D] over valid frames, L logits [T, B, V])."""
    dropouts, linears, *others = zip(*heads)
    p = dropouts[0].p if dropouts[0].training else 0.0
    padding = lengths = None
    if padding_mask is not None:
        padding, lengths = padding_mask.t().unsqueeze(-1), (~padding_mask).sum(1, keepdim=True)
    weights, biases = [x.weight for x in linears], [x.bias for x in linears]
    means, stacked = _ReadLayers.apply(padding, lengths, p, *states, *weights, *biases)
    logits = list(stacked.unbind(0))
    for modules in others:
        logits = [module(x) for module, x in zip(modules, logits)]
    return means.transpose(0, 1), logits


class _ReadLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, padding, lengths, dropout, *parts):
        layers = len(parts) // 3
        ctx.layers, ctx.dropout = layers, dropout
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        sums, logits, kept = [], [], []
        for state, weight, bias in zip(*(parts[i * layers : (i + 1) * layers] for i in range(3))):
            clean = _cleaned(state, padding)
            sums.append(clean.sum(0, dtype=dtype))
            if dropout:
                clean, mask = torch.native_dropout(clean, dropout, True)
                kept.append(mask)
            logits.append(F.linear(clean, weight, bias))
        logits = torch.stack(logits)
        if padding is not None:
            logits.masked_fill_(padding, 0)
        ctx.save_for_backward(padding, lengths, *parts[: 2 * layers], *kept)
        means = torch.stack(sums) / (len(parts[0]) if lengths is None else lengths)
        return means.to(parts[0].dtype), logits

    @staticmethod
    def backward(ctx, grad_means, grad_logits):
        padding, lengths, *parts = ctx.saved_tensors
        layers = ctx.layers
        states, weights, kept = parts[:layers], parts[layers : 2 * layers], parts[2 * layers :]
        dtype, scale = weights[0].dtype, 1 / (1 - ctx.dropout)
        grad_logits = _cleaned(grad_logits.to(dtype), padding)  # autocast: they differ
        of_biases = grad_logits.sum((1, 2)).unbind(0)
        spread = (grad_means / (len(states[0]) if lengths is None else lengths)).to(dtype)
        valid = None if padding is None else (~padding).to(dtype)
        of_states, of_weights = [], []
        for layer, (state, weight, grad) in enumerate(zip(states, weights, grad_logits)):
            read = _cleaned(state, padding)
            if kept:
                read = read * kept[layer] * scale
            of_weights.append(grad.flatten(0, 1).t() @ read.flatten(0, 1).to(dtype))
            if not ctx.needs_input_grad[3 + layer]:  # a frozen encoder's
                of_states.append(None)
                continue
            of_state = grad @ weight
            if kept:
                of_state.mul_(kept[layer]).mul_(scale)
            if valid is None:
                of_state.add_(spread[layer])
            else:
                of_state.addcmul_(valid, spread[layer])
            of_states.append(of_state.to(state.dtype))
        return (None, None, None, *of_states, *of_weights, *of_biases)


def _cleaned(state: Tensor, padding: Optional[Tensor]) -> Tensor:
    """With zeros in the padding [T, B, 1]."""
    return state if padding is None else state.masked_fill(padding, 0)
