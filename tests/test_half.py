"""Half precision on a CPU whose grouped convolution is wrong."""

import pytest
import torch
from build import build_model, setup_task
from conftest import save_wavlm
from torch.nn import functional as F

from varan_fairseq.upstream import half
from varan_fairseq.upstream.half import Float32Conv1d, half_is_right, mend_convolutions


@pytest.fixture
def amx(monkeypatch):
    """A processor on which bf16 groups of fewer than 16 channels are wrong, as oneDNN's with AMX.
    Yields the dtypes that such groups were computed in."""
    seen, plain = [], F.conv1d

    def conv1d(x, weight, bias=None, *args, **options):
        y = plain(x, weight, bias, *args, **options)
        groups = options.get("groups", args[3] if len(args) > 3 else 1)
        if groups > 1 and weight.shape[1] < 16:
            seen.append(x.dtype)
            return y * 2 if x.dtype == torch.bfloat16 else y
        return y

    half_is_right.cache_clear()
    monkeypatch.setattr(F, "conv1d", conv1d)
    yield seen
    half_is_right.cache_clear()


def convolution(channels, groups):
    torch.manual_seed(0)
    return torch.nn.Conv1d(channels, channels, 16, padding=8, groups=groups)


@pytest.mark.parametrize("channels, groups, wrong", [(32, 4, True), (64, 4, False)])
def test_a_wrong_kernel_is_found_and_not_used(amx, caplog, channels, groups, wrong):
    module, x = convolution(channels, groups), torch.randn(2, channels, 50)
    expected = module(x)
    mend_convolutions(module.bfloat16())
    found = module(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() / expected.norm() < 0.02
    assert isinstance(module, Float32Conv1d) == wrong
    mend_convolutions(convolution(channels, groups).bfloat16())
    said = [record.getMessage() for record in caplog.records if record.name == half.__name__]
    assert len(said) == wrong  # once per kind
    if wrong:
        assert "32 channels in 4 groups (relative error 3)" in said[0]
        assert amx.count(torch.bfloat16) == 1  # the trial


def test_other_dtypes_are_not_tried(amx):
    module, x = convolution(32, 4), torch.randn(2, 32, 50)
    for dtype in (torch.float32, torch.float64):
        mend_convolutions(module.to(dtype))
        module(x.to(dtype))
    assert amx == [torch.float32, torch.float64] and type(module) is torch.nn.Conv1d


def test_moved_to_and_fro(amx):
    module, x = convolution(32, 4), torch.randn(2, 32, 50)
    expected = module(x)
    mend_convolutions(module.bfloat16())
    assert torch.allclose(module.float()(x), expected, atol=0.05)


def test_a_model_of_small_groups_is_right_all_the_same(amx, tmp_path, corpus):
    path = save_wavlm(tmp_path / "w.pt", layer_norm_first=True, extractor_mode="layer_norm")
    encoder = build_model(path, setup_task(corpus)).w2v_encoder.eval()
    source = torch.randn(2, 9000)
    expected = encoder(source, None).output
    found = encoder.bfloat16()(source.bfloat16(), None).output
    assert (found.float() - expected).norm() / expected.norm() < 0.05
