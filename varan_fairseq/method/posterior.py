"""The posterior q(l|x): how much each layer counts for this utterance. The network sees the mean of
every layer; `StaticPosterior` and `PriorPosterior`, which do not, are what it is compared with."""

from typing import Dict, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .prior import ExactBuffers


def valid_frames(padding_mask: Optional[Tensor], state: Tensor) -> Optional[Tensor]:
    """1 where a frame is valid, 0 in the padding: [T, B, 1] in the dtype of `state`; None for None.

    padding_mask: [B, T] bool, True = padding, or None for no padding.
    """
    return None if padding_mask is None else (~padding_mask.t()).unsqueeze(-1).to(state.dtype)


def valid_sum(state: Tensor, valid: Optional[Tensor]) -> Tensor:
    """Sum over the frames that `valid_frames` has 1 for: [T, B, D] -> [B, D], at least float32.
    What the padding holds does not matter as long as it is finite."""
    if valid is not None:
        state = state * valid  # on a CPU, with the sum, half the time of an einsum
    return state.sum(0, dtype=torch.promote_types(state.dtype, torch.float32))


def layer_means(totals: Sequence[Tensor], state: Tensor, valid: Optional[Tensor]) -> Tensor:
    """Means over valid frames of L layers, by their `valid_sum` each: [B, L, D] in the dtype of
    `state`, one of theirs. The division lies outside of what `LayerNorms.recomputed` repeats."""
    stacked = torch.stack(list(totals), dim=1)
    frames = len(state) if valid is None else valid.sum(0, dtype=stacked.dtype).unsqueeze(1)
    return (stacked / frames).to(state.dtype)


def masked_mean(state: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """Mean over the valid frames of each utterance: [T, B, D] -> [B, D]. padding_mask: see
    `valid_frames`."""
    valid = valid_frames(padding_mask, state)
    return layer_means([valid_sum(state, valid)], state, valid)[:, 0]


def log_prior(prior: Tensor) -> Tensor:
    """Finite also where the prior is 0, and its gradient nowhere NaN."""
    return prior.clamp(min=torch.finfo(prior.dtype).tiny).log()


class LayerPosterior(ExactBuffers):
    """Pooled states [B, L, D] -> log q(l|x) [B, L] (docs/method.md, "The posterior network"). Of
    the lowest K layers alone if it is given so many.

    A linear map to queries, keys and values, self-attention over the L layers, a score f
    per layer, q = softmax(f + log p): 7 D^2 + 5 D + 1 parameters. In float32 whatever the
    model runs in (float64 stays): at the start of training its gradients are too small for
    half precision.

    Args:
        dim: width D.
        num_heads: attention heads, must divide D, else ValueError.
        layer_embedding: number of layers L to learn one added vector each for, so that the
            otherwise permutation-equivariant attention knows depth; 0 adds none.
        lr_multiplier: how far the optimizer moves this network compared with the rest of the
            model: weights are stored divided by it and multiplied when used (the equalised
            learning rate of arXiv 1812.04948).
        centred: whether f is added to log p, so that f = 0 means the prior; else to 0, so that it
            means 1/L.

    The last two are buffers, as stored weights mean nothing without them; 1 and False are the
    method's release.
    """

    lr_multiplier: Tensor
    centred: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int = 16,
        layer_embedding: int = 0,
        *,
        lr_multiplier: float = 0.1,
        centred: bool = True,
    ):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(
                f"posterior heads must divide the encoder width: {num_heads} heads, width {dim}"
            )
        if not 0 < lr_multiplier < float("inf"):
            raise ValueError(
                f"posterior_lr_multiplier={lr_multiplier}: expected a finite number > 0 (1 for the "
                "step of the rest of the model)"
            )
        self.num_heads = num_heads
        self.register_buffer("lr_multiplier", torch.tensor(float(lr_multiplier)))
        self.register_buffer("centred", torch.tensor(float(centred)))
        self.embedding = None
        if layer_embedding:
            self.embedding = nn.Parameter(torch.zeros(layer_embedding, dim))
            nn.init.normal_(self.embedding, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention = nn.MultiheadAttention(dim, num_heads)  # holds weights, is not called
        self.score = nn.Linear(dim, 1)
        for weight in (self.qkv.weight, self.attention.out_proj.weight, self.score.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.xavier_uniform_(self.attention.in_proj_weight)
        for bias in (self.attention.in_proj_bias, self.attention.out_proj.bias, self.score.bias):
            nn.init.zeros_(bias)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.div_(lr_multiplier)

    def forward(self, pooled: Tensor, prior: Optional[Tensor] = None) -> Tensor:
        """log q(l|x) of a batch.

        Args:
            pooled: [B, L, D].
            prior: [L], or None for a uniform one.

        Returns:
            log q [B, L], at least float32.
        """
        dtype = torch.promote_types(pooled.dtype, torch.float32)
        with torch.autocast(pooled.device.type, enabled=False):
            score = self._score(pooled.to(dtype))
            if prior is not None:
                score = score + self.centred * log_prior(prior)
            return score.log_softmax(-1)

    def _score(self, pooled: Tensor) -> Tensor:
        """[B, L, D] -> [B, L]."""
        batch, layers, dim = pooled.shape
        if self.embedding is not None:
            pooled = pooled + self.lr_multiplier * self.embedding[:layers].to(pooled.dtype)
        inputs = self._linear(pooled, self.qkv.weight).chunk(3, dim=-1)
        weights = self.attention.in_proj_weight.chunk(3)
        biases = self.attention.in_proj_bias.chunk(3)
        query, key, value = (
            self._linear(*parts).view(batch, layers, self.num_heads, -1).transpose(1, 2)
            for parts in zip(inputs, weights, biases)
        )
        attention = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (attention @ value).transpose(1, 2).reshape(batch, layers, dim)
        mixed = self._linear(mixed, self.attention.out_proj.weight, self.attention.out_proj.bias)
        return self._linear(mixed, self.score.weight, self.score.bias).squeeze(-1)

    def keep_lowest(self, layers: int) -> None:
        """Forgets the embeddings of the layers above; the network itself knows no depth."""
        if self.embedding is not None:
            self.embedding = nn.Parameter(self.embedding.detach()[:layers].clone())

    def _linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
        """With the weights as they are used, at the cost of scaling the (small) output."""
        bias = None if bias is None else bias.to(x.dtype)
        return self.lr_multiplier * F.linear(x, weight.to(x.dtype), bias)


class StaticPosterior(nn.Module):
    """q = softmax(scalars + log p), learned, the same for every input."""

    def __init__(self, num_layers: int):
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(num_layers))

    def keep_lowest(self, layers: int) -> None:
        self.scalars = nn.Parameter(self.scalars.detach()[:layers].clone())

    def forward(self, pooled: Tensor, prior: Optional[Tensor] = None) -> Tensor:
        """pooled: [B, L, D], of which only the shape counts. prior: [L], or None for a uniform
        one. Returns log q [B, L], at least float32."""
        scalars = self.scalars[: pooled.shape[1]]
        return _same_for_all(pooled, scalars, prior)


class PriorPosterior(nn.Module):
    """q = p: nothing is learned."""

    def keep_lowest(self, layers: int) -> None:
        pass

    def forward(self, pooled: Tensor, prior: Optional[Tensor] = None) -> Tensor:
        """As of `StaticPosterior`."""
        return _same_for_all(pooled, pooled.new_zeros(pooled.shape[1]), prior)


def _same_for_all(pooled: Tensor, score: Tensor, prior: Optional[Tensor]) -> Tensor:
    score = score.to(torch.promote_types(score.dtype, torch.float32))
    if prior is not None:
        score = score + log_prior(prior)
    return score.log_softmax(-1).expand(pooled.shape[:2])


def as_released(state: Dict[str, Tensor], prefix: str) -> None:
    """Gives the weights of a `LayerPosterior` from before it had `lr_multiplier` and `centred`
    the values they were trained with, in place. prefix: of its names in the state dict."""
    state.setdefault(f"{prefix}lr_multiplier", torch.tensor(1.0))
    state.setdefault(f"{prefix}centred", torch.tensor(0.0))
