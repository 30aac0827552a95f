"""Low-rank adaptation of any module: against float64 by hand, against peft, and in use."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from varan_fairseq.lora import (
    LoraLinear,
    apply_lora,
    load_lora_state,
    lora_parameters,
    lora_state,
    match_linears,
    merge_lora,
    set_trainable,
)

OPTIONS = dict(rank=3, alpha=6.0)


class Reader(nn.Module):
    """Uses its linear layer as fairseq's attention does: reads the weight, never calls."""

    def __init__(self, linear):
        super().__init__()
        self.proj = linear

    def forward(self, x):
        return F.linear(x, self.proj.weight, self.proj.bias)


class Caller(Reader):
    def forward(self, x):
        return self.proj(x)


def adapted(way, magnitude, *, trained=True, bias=True, dtype=torch.float64, **options):
    torch.manual_seed(0)
    module = way(nn.Linear(5, 4, bias=bias)).to(dtype)
    apply_lora(module, ["proj"], magnitude=magnitude, **{**OPTIONS, **options})
    if trained:
        for parameter in lora_parameters(module).values():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def by_hand(module, x, grad, magnitude):
    """Output and gradients from the papers' formulas, in numpy."""
    linear = module.proj
    weight, a, b, bias = (
        value.detach().numpy()
        for value in (linear.frozen_weight, linear.lora_A, linear.lora_B, linear.bias)
    )
    x, grad = x.detach().numpy().reshape(-1, 5), grad.numpy().reshape(-1, 4)
    scale = OPTIONS["alpha"] / OPTIONS["rank"]
    direction = weight + scale * np.einsum("or,ri->oi", b, a)
    norm = np.sqrt((direction**2).sum(1, keepdims=True))
    m = linear.lora_magnitude.detach().numpy()[:, None] if magnitude else norm
    used = m * direction / norm
    grad_used = np.einsum("no,ni->oi", grad, x)
    grad_direction = grad_used * m / norm  # the norm is a constant
    found = {
        "output": np.einsum("ni,oi->no", x, used) + bias,
        "x": np.einsum("no,oi->ni", grad, used),
        "bias": grad.sum(0),
        "lora_A": scale * np.einsum("or,oi->ri", b, grad_direction),
        "lora_B": scale * np.einsum("oi,ri->or", grad_direction, a),
    }
    if magnitude:
        found["lora_magnitude"] = (grad_used * direction / norm).sum(1)
    return found


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("way", [Caller, Reader])
@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 2, 5)])
def test_equals_a_float64_computation_by_hand(way, magnitude, shape):
    module = adapted(way, magnitude)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    output = module(x)
    grad = torch.randn_like(output)
    output.backward(grad)
    expected = by_hand(module, x, grad, magnitude)
    found = {"output": output, "x": x.grad}
    found.update({name: p.grad for name, p in module.proj.named_parameters() if p.requires_grad})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name].detach().numpy().reshape(value.shape), value, rtol=1e-9, err_msg=name
        )
    assert output.shape == (*shape[:-1], 4)


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_peft(magnitude, bias):
    peft = pytest.importorskip("peft", reason="peft is in the extra `test`")
    ours = adapted(Caller, magnitude, bias=bias)
    plain = nn.Linear(5, 4, bias=bias).double()
    plain.weight.data.copy_(ours.proj.frozen_weight)
    if bias:
        plain.bias.data.copy_(ours.proj.bias)
    config = peft.LoraConfig(
        r=3, lora_alpha=6.0, lora_dropout=0.0, target_modules=["proj"], use_dora=magnitude
    )
    theirs = peft.get_peft_model(Caller(plain), config).double()
    layer = theirs.base_model.model.proj
    pairs = {"lora_A": layer.lora_A.default.weight, "lora_B": layer.lora_B.default.weight}
    if magnitude:
        pairs["lora_magnitude"] = layer.lora_magnitude_vector.default.weight
    for name, parameter in pairs.items():
        parameter.data.copy_(getattr(ours.proj, name))
    x = torch.randn(6, 5, dtype=torch.float64)
    outputs = [module(x) for module in (ours, theirs)]
    assert torch.allclose(*outputs, rtol=1e-9)
    for output in outputs:
        output.pow(2).sum().backward()
    for name, parameter in pairs.items():
        assert torch.allclose(getattr(ours.proj, name).grad, parameter.grad, rtol=1e-9), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("way", [Caller, Reader])
def test_starts_exactly_as_the_plain_layer(way, magnitude, dtype):
    torch.manual_seed(1)
    module = way(nn.Linear(33, 17)).to(dtype)
    x = torch.randn(9, 33, dtype=dtype)
    expected = module(x)
    apply_lora(module, ["*"], rank=4, magnitude=magnitude)
    assert torch.equal(module(x), expected)
    assert module.proj.lora_A.any() and not module.proj.lora_B.any()
    bound = 1 / math.sqrt(33)  # Kaiming-uniform with slope sqrt(5)
    assert 0.9 * bound < module.proj.lora_A.abs().max() <= bound * 1.01


def test_inputs_of_any_layout():
    module = adapted(Caller, True)
    x = torch.randn(5, 3, 7, dtype=torch.float64).transpose(0, 2)
    assert not x.is_contiguous()
    assert torch.allclose(module(x), module(x.contiguous()), rtol=1e-12)
    assert module(x[:0]).shape == (0, 3, 4)


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
def test_a_row_of_zeros_is_no_nan(magnitude):
    linear = nn.Linear(5, 4)
    linear.weight.data[2] = 0
    module = Caller(linear)
    apply_lora(module, ["proj"], magnitude=magnitude)
    output = module(torch.randn(3, 5))
    output.sum().backward()
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(p.grad).all() for p in lora_parameters(module).values())


def test_both_ways_agree_under_autocast():
    for magnitude in (False, True):
        module = adapted(Caller, magnitude, dtype=torch.float32)
        x = torch.randn(6, 5)
        expected = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = module(x)
            found.float().sum().backward()
        assert torch.allclose(found.float(), expected, atol=0.1)
        assert all(p.grad is not None for p in lora_parameters(module).values())


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
def test_merge(magnitude):
    for way in (Caller, Reader):
        module = adapted(way, magnitude)
        x = torch.randn(6, 5, dtype=torch.float64)
        expected = module(x).detach()
        assert merge_lora(module) == ["proj"]
        assert type(module.proj) is nn.Linear and lora_state(module) == {}
        assert torch.allclose(module(x), expected, rtol=1e-12)
        assert list(module.state_dict()) == ["proj.weight", "proj.bias"]
        assert merge_lora(module) == []


def test_merge_of_half_precision_rounds_once():
    module = adapted(Caller, True, dtype=torch.bfloat16)
    exact = copy.deepcopy(module).double().proj.adapted_weight()
    merge_lora(module)
    assert module.proj.weight.dtype == torch.bfloat16
    assert torch.allclose(module.proj.weight.double(), exact, rtol=2**-8)


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
def test_torch_modules_that_read_weights(magnitude):
    """torch's own transformer block: attention reads out_proj, its fused path every weight."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    names = apply_lora(block, ["*"], rank=2, magnitude=magnitude)
    assert names == ["self_attn.out_proj", "linear1", "linear2"]
    x = torch.randn(2, 5, 8)
    for parameter in lora_parameters(block).values():
        parameter.data += 0.2 * torch.randn_like(parameter)
    block(x).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in lora_parameters(block).values())
    expected = block(x).detach()
    with torch.no_grad():
        fused = block.eval()(x)
        assert torch.allclose(fused, expected, atol=1e-5)
        merge_lora(block)
        assert torch.allclose(block(x), expected, atol=1e-5)


def test_dropout_drops_inputs_of_the_low_rank_path_only():
    module = adapted(Caller, False, dropout=0.5)
    x = torch.ones(20000, 5, dtype=torch.float64)
    plain = F.linear(x, module.proj.frozen_weight, module.proj.bias)
    module.eval()
    exact = module(x) - plain
    module.train()
    torch.manual_seed(0)
    dropped = module(x) - plain
    assert torch.allclose(dropped.mean(0), exact[0], atol=0.03)
    assert len(dropped[:200].unique(dim=0)) > 5  # 2^5 patterns of five inputs
    merge_lora(module)


def test_dropout_on_a_weight_that_is_read_is_refused():
    module = adapted(Reader, False, dropout=0.1)
    x = torch.randn(2, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match="LoRA dropout 0.1 is not called, its weight is read"):
        module(x)
    module.eval()(x)


def test_state_travels():
    module = adapted(Caller, True)
    state = lora_state(module)
    assert sorted(state) == ["proj.lora_A", "proj.lora_B", "proj.lora_magnitude"]
    other = adapted(Caller, True, trained=False)
    load_lora_state(other, state)
    x = torch.randn(2, 5, dtype=torch.float64)
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))
    before = lora_state(other)
    with pytest.raises(ValueError, match="missing .*lora_magnitude.*surplus none"):
        load_lora_state(other, lora_state(adapted(Caller, False)))
    with pytest.raises(ValueError, match=r"proj.lora_A \(2, 5\), expected \(3, 5\)"):
        load_lora_state(other, lora_state(adapted(Caller, True, rank=2)))
    assert all(torch.equal(before[key], value) for key, value in lora_state(other).items())


def test_the_plain_state_dict_fits_before_and_after():
    plain = Caller(nn.Linear(5, 4))
    state = copy.deepcopy(plain.state_dict())
    apply_lora(plain, ["proj"])
    missing, surplus = plain.load_state_dict(state, strict=False)
    assert surplus == [] and all("lora" in key for key in missing)
    assert torch.equal(plain.state_dict()["proj.weight"], state["proj.weight"])


def test_what_trains():
    module = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    apply_lora(module, ["0"], rank=1)
    assert not module[0].frozen_weight.requires_grad
    set_trainable(module, [*lora_parameters(module), "2.weight"])
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {"0.lora_A", "0.lora_B", "2.weight"}
    with pytest.raises(ValueError, match="no such parameters: 3.weight"):
        set_trainable(module, ["3.weight"])


class Odd(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


def test_names_and_patterns():
    block = nn.ModuleDict({"fc1": nn.Linear(2, 2), "fc2": nn.Linear(2, 2), "odd": Odd(2, 2)})
    module = nn.ModuleList([block, copy.deepcopy(block)])
    assert match_linears(module, ["*.fc2", "0.*"]) == ["0.fc1", "0.fc2", "1.fc2"]
    with pytest.raises(
        ValueError, match=r"'\*.fc3' matches no linear layer; there are \*.fc1, \*.fc2"
    ):
        match_linears(module, ["*.fc1", "*.fc3"])
    apply_lora(module, ["*"])
    with pytest.raises(ValueError, match="there are none"):
        apply_lora(module, ["*"])
    assert isinstance(module[0]["fc1"], LoraLinear) and type(module[0]["odd"]) is Odd
    assert "LoRA rank=16" in repr(module)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rank": 0}, "rank must be 1 or more, got 0"),
        ({"alpha": -1.0}, "alpha must be a finite number > 0, got -1.0"),
        ({"alpha": float("nan")}, "alpha must be a finite number > 0, got nan"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_options_out_of_range(options, words):
    module = Caller(nn.Linear(5, 4))
    with pytest.raises(ValueError, match=words):
        apply_lora(module, ["proj"], **options)
    assert type(module.proj) is nn.Linear
