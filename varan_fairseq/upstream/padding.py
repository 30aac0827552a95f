"""Parts of an encoder that leave padding out, which fairseq's read with the utterance.

Pre-training crops, so its statistics are of speech alone. fairseq's fine-tuning pads, and its
norms average over the padding: what they make of an utterance depends on its batch.

What is padding is known in a forward pass and its recomputation, of the calling thread alone:
threads that share a model do not see each other's, and nothing is left behind for a later call.
"""

import contextlib
import contextvars
from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Valid:
    """frames: [B], valid frames of the states. inside: the same where a module of the feature
    encoder is, if there is padding."""

    frames: Tensor
    inside: Dict[nn.Module, Tensor]


_VALID: contextvars.ContextVar = contextvars.ContextVar("valid", default=None)


def current() -> Optional[Valid]:
    """None outside of a forward pass, as where a pre-trained model is used directly."""
    return _VALID.get()


@contextlib.contextmanager
def during(valid: Optional[Valid]) -> Iterator[None]:
    """While active, `current` is this."""
    token = _VALID.set(valid)
    try:
        yield
    finally:
        _VALID.reset(token)


def silence_padding(_, inputs: Tuple[Tensor]) -> Optional[Tensor]:
    """Makes a batch's convolutions [B, C, T'] see what they see in an utterance alone, and saw
    in pre-training, which crops and so has no padding: zeros outside."""
    batch = current()
    if batch is None:
        return None
    frame = torch.arange(inputs[0].shape[-1], device=inputs[0].device)
    return inputs[0].masked_fill(frame >= batch.frames[:, None, None], 0)


class ValidGroupNorm(nn.GroupNorm):
    """What fairseq's `Fp32GroupNorm` becomes by a change of class, for a group a channel, as in
    every feature encoder."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> the same shape, computed in at least float32; padding gets a constant."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        batch, common = current(), x.shape[-1]
        frames = batch.inside.get(self) if batch is not None else None
        if frames is not None:  # of a GPU, asking would wait for all its work
            common = int(frames.min()) if x.device.type == "cpu" else 0
        if common == x.shape[-1]:
            return F.group_norm(x.to(dtype), self.num_groups, weight, bias, self.eps).to(x.dtype)
        if x.is_cuda and x.dtype != dtype:
            return HalfGroupNorm.apply(x, weight, bias, frames, self.eps)
        return _ValidGroupNorm.apply(x, weight, bias, frames, common, self.eps)


class _ValidGroupNorm(torch.autograd.Function):
    """By hand, because masks over the whole tensor, which is the encoder's largest, cost more
    than the norm itself: only what lies beyond the first `common` frames is masked."""

    @staticmethod
    def forward(ctx, x, weight, bias, frames, common, eps):
        frames = frames.view(-1, 1, 1)
        tail = torch.arange(common, x.shape[-1], device=x.device) >= frames
        weight, bias = weight.unsqueeze(-1), bias.unsqueeze(-1)
        inside, beyond = x.to(weight.dtype).split([common, x.shape[-1] - common], dim=-1)
        total = inside.sum(-1, keepdim=True)
        total += beyond.masked_fill(tail, 0).sum(-1, keepdim=True)
        centred = x - total / frames
        centred[..., common:].masked_fill_(tail, 0)
        norm = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
        scale = (norm.square() / frames + eps).rsqrt()
        ctx.save_for_backward(centred, scale, weight, frames, tail)
        ctx.common, ctx.dtype = common, x.dtype
        return torch.addcmul(bias, centred, scale * weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        centred, scale, weight, frames, tail = ctx.saved_tensors
        grads = _gradients(grad, centred, scale, weight, frames, tail, ctx.common)
        return (grads[0].to(ctx.dtype), *grads[1:], None, None, None)


class HalfGroupNorm(torch.autograd.Function):
    """The same for half precision on a GPU, where what counts is how often the tensor is read: no
    copy of it in float32 exists in the forward pass. The variance is the mean square less the
    squared mean, in float32: good to more digits than the result has."""

    @staticmethod
    def forward(ctx, x, weight, bias, frames, eps):
        frames = frames.view(-1, 1, 1)
        tail = torch.arange(x.shape[-1], device=x.device) >= frames
        clean = x.masked_fill(tail, 0)
        mean = clean.sum(-1, keepdim=True, dtype=weight.dtype) / frames
        norm = torch.linalg.vector_norm(clean, dim=-1, keepdim=True, dtype=weight.dtype)
        variance = (norm.square() / frames - mean.square()).clamp_(min=0)
        repeated = [value.repeat(len(x)) for value in (weight, bias)]
        channels = clean.view(1, -1, x.shape[-1])
        normed = F.batch_norm(channels, mean.flatten(), variance.flatten(), *repeated, eps=eps)
        ctx.save_for_backward(clean, mean, (variance + eps).rsqrt(), weight, frames, tail)
        return normed.view(x.shape)

    @staticmethod
    def backward(ctx, grad):
        clean, mean, scale, weight, frames, tail = ctx.saved_tensors
        centred = (clean - mean).masked_fill_(tail, 0)
        grads = _gradients(grad, centred, scale, weight.unsqueeze(-1), frames, tail, 0)
        return (grads[0].to(clean.dtype), *grads[1:], None, None)


def _gradients(grad, centred, scale, weight, frames, tail, common) -> Tuple[Tensor, ...]:
    """Of (x, weight, bias), in the precision of `centred`."""
    grad = grad.to(centred.dtype, copy=True)
    grad[..., common:].masked_fill_(tail, 0)
    total = grad.sum(-1, keepdim=True)
    product = (grad * centred).sum(-1, keepdim=True)
    grad_weight, grad_bias = (product * scale).sum((0, 2)), total.sum((0, 2))
    grad.sub_(total / frames).addcmul_(centred, -product * scale.square() / frames)
    grad.mul_(scale * weight)
    grad[..., common:].masked_fill_(tail, 0)
    return grad, grad_weight, grad_bias


class ValidBatchNorm(nn.BatchNorm1d):
    """What a Conformer block's batch norm becomes by a change of class."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T'] -> the same shape; while training, padding gets 0."""
        batch = current()
        if batch is None or not self.training:
            return super().forward(x)
        inside = torch.arange(x.shape[-1], device=x.device) < batch.frames.unsqueeze(1)
        by_frame = x.transpose(1, 2)
        normed = super().forward(by_frame[inside])
        return (
            by_frame.new_zeros(by_frame.shape)
            .masked_scatter(inside.unsqueeze(-1), normed.to(x.dtype))
            .transpose(1, 2)
        )
