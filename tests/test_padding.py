"""Norms without padding in their statistics, against each utterance alone in float64."""

import pytest
import torch

from varan_fairseq.upstream.padding import (
    HalfGroupNorm,
    Valid,
    ValidBatchNorm,
    ValidGroupNorm,
    during,
)

B, C, T = 4, 6, 11
FRAMES = torch.tensor([11, 4, 1, 8])
PADDING = (torch.arange(T) >= FRAMES.unsqueeze(1)).unsqueeze(1)


def group_norm(frames=None):
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(C, C).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm.__class__ = ValidGroupNorm
    return said(norm, frames)


def said(norm, frames):
    """The norm, whose calls are told how many frames are valid."""
    plain = norm.forward

    def forward(x):
        inside = {} if frames is None else {norm: frames}
        with during(Valid(frames, inside)):
            return plain(x)

    norm.forward = forward
    return norm


def alone(norm, x, frames):
    """By the textbook, [C, frames] of one utterance."""
    x = x[:, :frames]
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    scaled = (x - mean) / (variance + norm.eps).sqrt()
    return scaled * norm.weight.unsqueeze(1) + norm.bias.unsqueeze(1)


@pytest.fixture(params=["CPU", "GPU"])
def norm(request):
    """In float64, as on a CPU, and as on a GPU in half precision."""
    found = group_norm(FRAMES)
    if request.param == "GPU":
        settings = (found.weight, found.bias, FRAMES, found.eps)
        found.forward = lambda x: HalfGroupNorm.apply(x, *settings)
    return found


def test_group_norm(norm):
    """Values and gradients; padding filled with NaN."""
    clean = (5 + torch.randn(B, C, T, dtype=torch.float64)).requires_grad_()
    dirty = clean.detach().masked_fill(PADDING, float("nan")).requires_grad_()
    weight = torch.randn(B, C, T, dtype=torch.float64)
    found, expected = norm(dirty), 0.0
    for b, frames in enumerate(FRAMES.tolist()):
        each = alone(norm, clean[b], frames)
        assert torch.allclose(found[b, :, :frames], each, rtol=1e-9, atol=1e-12)
        expected = expected + (each * weight[b, :, :frames]).sum()
    assert torch.isfinite(found).all()
    found = (found * weight.masked_fill(PADDING, 0)).sum()
    wanted = [norm.weight, norm.bias]
    for one, other in zip(
        torch.autograd.grad(found, [dirty, *wanted]),
        torch.autograd.grad(expected, [clean, *wanted]),
    ):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


def test_group_norm_ignores_what_reaches_its_padding(norm):
    x = torch.randn(B, C, T, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(B, C, T, dtype=torch.float64)
    clean = torch.autograd.grad(norm(x), [x, norm.weight, norm.bias], grad.masked_fill(PADDING, 0))
    dirty = torch.autograd.grad(
        norm(x), [x, norm.weight, norm.bias], grad.masked_fill(PADDING, float("nan"))
    )
    for one, other in zip(clean, dirty):
        assert torch.equal(one, other)


@pytest.mark.parametrize("frames", [None, torch.full((B,), T)])
def test_group_norm_without_padding_is_torchs(frames):
    x = torch.randn(B, C, T, dtype=torch.float64)
    norm = group_norm(frames)
    expected = torch.nn.functional.group_norm(x, C, norm.weight, norm.bias, norm.eps)
    assert torch.equal(norm(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_group_norm_in_half_precision_counts_in_float32(dtype):
    x = (300 * torch.randn(B, C, T)).to(dtype).requires_grad_()  # squares overflow float16
    norm = group_norm(FRAMES).to(dtype)
    found = norm(x)
    found.sum().backward()
    assert found.dtype == x.grad.dtype == dtype and torch.isfinite(found).all()
    exact = group_norm(FRAMES).to(dtype).double()(x.detach().double())
    assert torch.allclose(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-2)


def test_batch_norm():
    """While training the statistics, running ones too, are those of all valid frames."""
    norm, plain = torch.nn.BatchNorm1d(C).double(), torch.nn.BatchNorm1d(C).double()
    norm.__class__ = ValidBatchNorm
    said(norm, FRAMES)
    x = torch.randn(B, C, T, dtype=torch.float64)
    dirty = x.masked_fill(PADDING, float("nan")).requires_grad_()
    found = norm(dirty)
    valid = [x[b, :, :frames] for b, frames in enumerate(FRAMES.tolist())]
    expected = plain(torch.cat(valid, dim=1).t()).split(FRAMES.tolist())
    for b, each in enumerate(expected):
        assert torch.allclose(found[b, :, : len(each)], each.t(), rtol=1e-9)
    assert not found.masked_select(PADDING).any()
    found.square().sum().backward()
    assert torch.isfinite(dirty.grad).all()
    for name, buffer in plain.named_buffers():
        assert torch.allclose(buffer, getattr(norm, name))
    norm.eval(), plain.eval()
    assert torch.allclose(norm(x), plain(x))
