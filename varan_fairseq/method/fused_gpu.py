"""What `fused.read_layer` does, of all layers in one step of autograd: a GPU is through with each small
operation sooner than a CPU can ask for the next, so what counts is how many there are. No copy of all
states exists. See `benchmarks/step.py`.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frames import ValidFrames, cleaned, outer


def read_layers(
    states: List[Tensor], valid: Optional[ValidFrames], linears: Sequence[nn.Linear], dropout: float
) -> Tuple[Tensor, Tensor]:
    """L states [T, B, D] and the linear map of each -> (means [B, L, D] over valid frames, logits
    [L, T, B, V], 0 in the padding). dropout: of what the maps read, not of the means."""
    padding, lengths = (None, None) if valid is None else valid[:2]
    weights, biases = [each.weight for each in linears], [each.bias for each in linears]
    means, logits = _ReadLayers.apply(padding, lengths, dropout, *states, *weights, *biases)
    return means.transpose(0, 1), logits


class _ReadLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, padding, lengths, dropout, *parts):
        layers = len(parts) // 3
        ctx.layers, ctx.dropout = layers, dropout
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        sums, logits, kept = [], [], []
        for state, weight, bias in zip(*(parts[i * layers : (i + 1) * layers] for i in range(3))):
            clean = cleaned(state, padding)
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
        grad_logits = cleaned(grad_logits.to(dtype), padding)  # autocast: they differ
        of_biases = grad_logits.sum((1, 2)).unbind(0)
        spread = (grad_means / (len(states[0]) if lengths is None else lengths)).to(dtype)
        there = None if padding is None else (~padding).to(dtype)
        of_states, of_weights = [], []
        for layer, (state, weight, grad) in enumerate(zip(states, weights, grad_logits)):
            read = cleaned(state, padding)
            if kept:
                read = read * kept[layer] * scale
            of_weights.append(outer(grad, read))
            if not ctx.needs_input_grad[3 + layer]:  # a frozen encoder's
                of_states.append(None)
                continue
            of_state = grad @ weight
            if kept:
                of_state.mul_(kept[layer]).mul_(scale)
            if there is None:
                of_state.add_(spread[layer])
            else:
                of_state.addcmul_(there, spread[layer])
            of_states.append(of_state.to(state.dtype))
        return (None, None, None, *of_states, *of_weights, *of_biases)
