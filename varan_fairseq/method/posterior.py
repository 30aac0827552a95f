"""The posterior q(l|x): how much each layer counts for this utterance."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_mean(state: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """Mean over the valid frames of each utterance.

    state: [T, B, D]. padding_mask: [B, T] bool, True = padding, or None for no padding.
    Returns [B, D] in the dtype of `state`, summed in at least float32. Padding is left out, not
    multiplied by zero, so whatever it holds (NaN too) has no effect.
    """
    dtype = torch.promote_types(state.dtype, torch.float32)
    if padding_mask is None:
        total, frames = state.sum(0, dtype=dtype), state.shape[0]
    else:
        padding = padding_mask.t().unsqueeze(-1)
        total = state.masked_fill(padding, 0).sum(0, dtype=dtype)
        frames = (~padding_mask).sum(1, keepdim=True)
    return (total / frames).to(state.dtype)


class LayerPosterior(nn.Module):
    """Pooled states [B, L, D] -> log q(l|x) [B, L], at least float32 (method.md, "Posterior").

    A linear map to queries, keys and values, self-attention over the L layers, a score
    per layer, log-softmax: 7 D^2 + 5 D + 1 parameters.

    dim: width D. num_heads: attention heads, must divide D, else ValueError.
    layer_embedding: number of layers L to learn one added vector each for, so that the
    otherwise permutation-equivariant attention knows depth; 0 (default) adds none.
    """

    def __init__(self, dim: int, num_heads: int = 16, layer_embedding: int = 0):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(
                f"posterior heads must divide the encoder width: {num_heads} heads, width {dim}"
            )
        self.embedding = None
        if layer_embedding:
            self.embedding = nn.Parameter(torch.zeros(layer_embedding, dim))
            nn.init.normal_(self.embedding, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.score = nn.Linear(dim, 1)
        for weight in (self.qkv.weight, self.attention.out_proj.weight, self.score.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.xavier_uniform_(self.attention.in_proj_weight)
        for bias in (self.attention.in_proj_bias, self.attention.out_proj.bias, self.score.bias):
            nn.init.zeros_(bias)

    def forward(self, pooled: Tensor) -> Tensor:
        if self.embedding is not None:
            pooled = pooled + self.embedding
        query, key, value = self.qkv(pooled).chunk(3, dim=-1)
        mixed, _ = self.attention(query, key, value, need_weights=False)
        score = self.score(mixed).squeeze(-1)
        return F.log_softmax(score.to(torch.promote_types(score.dtype, torch.float32)), dim=-1)
