"""The posterior against attention written out in float64."""

import pytest
import torch

from varan_fairseq.method.posterior import LayerPosterior, masked_mean


def reference(module, pooled):
    """log q [B, L] from the module's parameters, one utterance and head at a time."""
    attention, dim = module.attention, pooled.shape[-1]
    if module.embedding is not None:
        pooled = pooled + module.embedding
    width = dim // attention.num_heads
    rows = []
    for utterance in pooled:
        q, k, v = (utterance @ module.qkv.weight.t()).split(dim, dim=-1)
        weights, biases = attention.in_proj_weight.split(dim), attention.in_proj_bias.split(dim)
        q, k, v = (x @ w.t() + b for x, w, b in zip((q, k, v), weights, biases))
        heads = []
        for head in range(attention.num_heads):
            cut = slice(head * width, (head + 1) * width)
            scores = torch.exp(q[:, cut] @ k[:, cut].t() / width**0.5)
            heads.append(scores / scores.sum(1, keepdim=True) @ v[:, cut])
        mixed = torch.cat(heads, 1) @ attention.out_proj.weight.t() + attention.out_proj.bias
        score = (mixed @ module.score.weight.t() + module.score.bias).squeeze(1)
        rows.append(score - score.exp().sum().log())
    return torch.stack(rows)


@pytest.mark.parametrize("layer_embedding", [0, 5])
def test_forward_and_gradients(layer_embedding):
    torch.manual_seed(0)
    module = LayerPosterior(12, 3, layer_embedding).double()
    for parameter in module.parameters():  # zero biases would hide mistakes
        torch.nn.init.normal_(parameter, std=0.4)
    pooled = torch.randn(4, 5, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, dtype=torch.float64)
    wanted = [pooled, *module.parameters()]

    found, expected = module(pooled), reference(module, pooled)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_size_initialisation_and_dtype():
    dim = 64
    module = LayerPosterior(dim)
    assert sum(p.numel() for p in module.parameters()) == 7 * dim**2 + 5 * dim + 1
    for weight in (module.qkv.weight, module.attention.out_proj.weight):
        assert abs(weight.std().item() - 0.02) < 0.002
    for bias in (module.attention.in_proj_bias, module.attention.out_proj.bias, module.score.bias):
        assert not bias.any()
    bound = (6 / (4 * dim)) ** 0.5  # Xavier-uniform of the stacked [3 D, D] projection
    assert module.attention.in_proj_weight.abs().max() <= bound
    log_q = module.bfloat16()(torch.randn(2, 7, dim).bfloat16())
    assert log_q.dtype == torch.float32
    assert torch.allclose(log_q.exp().sum(1), torch.ones(2))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="5 heads, width 32"):
        LayerPosterior(32, 5)


def test_mean_uses_the_valid_frames_alone():
    state = torch.randn(6, 3, 4, dtype=torch.float64)
    lengths = [6, 2, 5]
    mask = torch.arange(6) >= torch.tensor(lengths).unsqueeze(1)
    dirty = state.masked_fill(mask.t().unsqueeze(-1), float("nan"))
    expected = torch.stack([state[:n, b].sum(0) / n for b, n in enumerate(lengths)])
    assert torch.allclose(masked_mean(dirty, mask), expected, rtol=1e-9, atol=1e-15)
    assert torch.allclose(masked_mean(state, None), state.mean(0), rtol=1e-9, atol=1e-15)
    half = torch.full((3000, 1, 1), 100.0, dtype=torch.float16)  # the sum overflows float16
    assert masked_mean(half, None).item() == 100.0
