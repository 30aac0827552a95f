"""The posterior against attention written out in float64."""

import copy

import pytest
import torch

from varan_fairseq.method.posterior import LayerPosterior, masked_mean


def reference(module, pooled, prior=None):
    """log q [B, L] from the module's parameters, one utterance and head at a time."""
    gain = float(module.lr_multiplier)
    used = {name: gain * parameter for name, parameter in module.named_parameters()}
    dim = pooled.shape[-1]
    if module.embedding is not None:
        pooled = pooled + used["embedding"]
    width = dim // module.num_heads
    centre = torch.zeros(pooled.shape[1], dtype=pooled.dtype)
    if module.centred and prior is not None:
        centre = prior.to(pooled.dtype).log()
    rows = []
    for utterance in pooled:
        q, k, v = (utterance @ used["qkv.weight"].t()).split(dim, dim=-1)
        weights = used["attention.in_proj_weight"].split(dim)
        biases = used["attention.in_proj_bias"].split(dim)
        q, k, v = (x @ w.t() + b for x, w, b in zip((q, k, v), weights, biases))
        heads = []
        for head in range(module.num_heads):
            cut = slice(head * width, (head + 1) * width)
            scores = torch.exp(q[:, cut] @ k[:, cut].t() / width**0.5)
            heads.append(scores / scores.sum(1, keepdim=True) @ v[:, cut])
        mixed = torch.cat(heads, 1) @ used["attention.out_proj.weight"].t()
        mixed = mixed + used["attention.out_proj.bias"]
        score = (mixed @ used["score.weight"].t() + used["score.bias"]).squeeze(1) + centre
        rows.append(score - score.exp().sum().log())
    return torch.stack(rows)


@pytest.mark.parametrize("layer_embedding", [0, 5])
@pytest.mark.parametrize("lr_multiplier", [0.1, 1.0])
@pytest.mark.parametrize("centred", [False, True])
def test_forward_and_gradients(layer_embedding, lr_multiplier, centred):
    torch.manual_seed(0)
    module = LayerPosterior(
        12, 3, layer_embedding, lr_multiplier=lr_multiplier, centred=centred
    ).double()
    for parameter in module.parameters():  # zero biases would hide mistakes
        torch.nn.init.normal_(parameter, std=0.4 / lr_multiplier)
    pooled = torch.randn(4, 5, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, dtype=torch.float64)
    prior = torch.rand(5, dtype=torch.float64).softmax(0)
    wanted = [pooled, *module.parameters()]

    for given in (prior, None):
        found, expected = module(pooled, given), reference(module, pooled, given)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad((found * weight).sum(), wanted),
            torch.autograd.grad((expected * weight).sum(), wanted),
        ):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_the_release_is_a_set_of_options_away():
    """Values of the network before it had options, for fixed weights."""
    module = LayerPosterior(4, 2, lr_multiplier=1.0, centred=False).double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            values = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(torch.sin(values + index).view(parameter.shape))
    pooled = torch.cos(torch.arange(24, dtype=torch.float64)).view(2, 3, 4)
    expected = torch.tensor(RELEASED, dtype=torch.float64)
    assert torch.allclose(module(pooled, torch.tensor([0.7, 0.2, 0.1])), expected, atol=1e-12)


RELEASED = [
    [-1.081081730433157, -1.101731860007206, -1.113289889377815],
    [-1.04915119470629, -1.158710862623246, -1.091017618688462],
]


def test_flat_means_the_prior():
    """A network that has learned nothing yet: all layers score alike."""
    prior = torch.tensor([0.6, 0.3, 0.1, 0.0])
    module = LayerPosterior(12, 3)
    torch.nn.init.zeros_(module.score.weight)
    pooled = torch.randn(5, 4, 12)
    assert torch.allclose(module(pooled, prior).exp(), prior.expand(5, 4), atol=1e-6)
    assert torch.isfinite(module(pooled, prior)).all()
    assert torch.allclose(module(pooled).exp(), torch.full((5, 4), 0.25))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_step_is_smaller_by_the_multiplier(optimizer):
    """The weights as used, not as stored: a tenth of the way in Adam, whose steps do not depend
    on the gradient's scale; a hundredth in SGD, whose gradients shrink too."""
    torch.manual_seed(1)
    pooled = torch.randn(4, 5, 12, dtype=torch.float64)
    weight, moved = 1e3 * torch.randn(4, 5, dtype=torch.float64), []
    for multiplier in (1.0, 0.1):
        torch.manual_seed(0)
        module = LayerPosterior(12, 3, lr_multiplier=multiplier).double()
        before = [multiplier * p.detach().clone() for p in module.parameters()]
        steps = optimizer(module.parameters(), 1e-3)
        (module(pooled) * weight).sum().backward()
        steps.step()
        after = [multiplier * p.detach() for p in module.parameters()]
        moved.append(torch.cat([(b - a).flatten() for a, b in zip(before, after)]))
    ratio = moved[1].norm() / moved[0].norm()
    assert ratio == pytest.approx(0.1 if optimizer is torch.optim.Adam else 0.01, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients(dtype):
    """At the start of a run, where scores are nearly equal, against float64 on the same weights
    and states."""
    torch.manual_seed(0)
    module = LayerPosterior(64, 4).to(dtype)
    exact = copy.deepcopy(module).double()
    pooled = torch.randn(8, 12, 64).to(dtype).requires_grad_()
    prior = torch.rand(12).softmax(0)
    nll = 1 + 0.1 * torch.randn(8, 12)
    inputs, gradients = (pooled, pooled.detach().double().requires_grad_()), []
    for network, states in zip((module, exact), inputs):
        log_q = network(states, prior)
        loss = (log_q.exp() * nll).sum() * 2**15  # as fp16's loss scale
        by_states, *by_weights = torch.autograd.grad(loss, [states, *network.parameters()])
        gradients.append([by_states, torch.cat([each.flatten() for each in by_weights])])
    for one, other in zip(*gradients):  # in half precision itself they were up to 39% off
        assert (one.double() - other).norm() <= 0.005 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_reach_it(dtype):
    torch.manual_seed(0)
    module, pooled = LayerPosterior(12, 3), torch.randn(4, 5, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(pooled.to(dtype))
    assert found.dtype == torch.float32
    assert torch.equal(found, module(pooled.to(dtype).float()))


def test_buffers_are_not_rounded():
    module = LayerPosterior(12, 3, lr_multiplier=0.1).half()
    assert module.lr_multiplier.dtype == torch.float32 and module.lr_multiplier == 0.1
    assert module.qkv.weight.dtype == torch.float16


@pytest.mark.parametrize("multiplier", [0.0, -0.1, float("nan"), float("inf")])
def test_bad_multiplier(multiplier):
    with pytest.raises(
        ValueError, match="posterior_lr_multiplier=.*: expected a finite number > 0"
    ):
        LayerPosterior(12, 3, lr_multiplier=multiplier)


def test_size_initialisation_and_dtype():
    dim = 64
    module = LayerPosterior(dim, lr_multiplier=1.0)
    assert sum(p.numel() for p in module.parameters()) == 7 * dim**2 + 5 * dim + 1
    for weight in (module.qkv.weight, module.attention.out_proj.weight):
        assert abs(weight.std().item() - 0.02) < 0.002
    for bias in (module.attention.in_proj_bias, module.attention.out_proj.bias, module.score.bias):
        assert not bias.any()
    bound = (6 / (4 * dim)) ** 0.5  # Xavier-uniform of the stacked [3 D, D] projection
    assert module.attention.in_proj_weight.abs().max() <= bound
    torch.manual_seed(0)
    small = LayerPosterior(dim)
    torch.manual_seed(0)
    for one, other in zip(small.parameters(), LayerPosterior(dim, lr_multiplier=1.0).parameters()):
        assert torch.allclose(0.1 * one, other)  # the same network, stored otherwise
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
    dirty = state.masked_fill(mask.t().unsqueeze(-1), 1234.5)
    expected = torch.stack([state[:n, b].sum(0) / n for b, n in enumerate(lengths)])
    assert torch.allclose(masked_mean(dirty, mask), expected, rtol=1e-9, atol=1e-15)
    assert torch.allclose(masked_mean(state, None), state.mean(0), rtol=1e-9, atol=1e-15)
    mask = torch.arange(3000) >= torch.tensor([[3000], [2900]])
    for dtype in (torch.float16, torch.bfloat16):
        half = torch.full((3000, 2, 1), 100.0, dtype=dtype)  # the sum overflows float16
        assert (masked_mean(half, None) == 100).all() and (masked_mean(half, mask) == 100).all()
