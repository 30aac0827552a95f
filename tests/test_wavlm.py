"""WavLM against transformers' WavLMModel; its released format; what fairseq lacks of it."""

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from conftest import save_wavlm
from torch.nn import functional as F
from wavlm_transformers import our_names, transformers_wavlm

from varan_fairseq.upstream import wavlm

CONFIGURATIONS = {
    "base": {"layer_norm_first": False, "extractor_mode": "default"},
    "large": {"layer_norm_first": True, "extractor_mode": "layer_norm"},
}
BUCKETS = {"num_buckets": 320, "max_distance": 800}


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


@pytest.mark.parametrize("size", sorted(CONFIGURATIONS))
def test_every_hidden_state_and_gradient_equals_transformers(tmp_path, task, size):
    path = save_wavlm(tmp_path / "wavlm.pt", **BUCKETS, **CONFIGURATIONS[size])
    state = torch.load(path)
    theirs = transformers_wavlm(state["cfg"]).eval()
    names = our_names(theirs)
    assert sorted(names.values()) == sorted(state["model"])
    theirs.load_state_dict({name: state["model"][ours] for name, ours in names.items()})
    # transformers, as fairseq, has a group norm that averages over the padding
    options = {"feature_grad_mult": 1.0, "mask_group_norm": False}
    encoder = build_model(path, task, **options).eval().w2v_encoder

    torch.manual_seed(0)
    lengths = torch.tensor([300_000, 210_000])  # 937 frames: every bucket, and beyond the last
    source = torch.randn(2, 300_000)
    padding = torch.arange(300_000) >= lengths.unsqueeze(1)
    source[padding] = 0
    found = encoder(source, padding)
    expected = theirs(source, attention_mask=(~padding).long(), output_hidden_states=True)
    valid = ~found.padding_mask
    assert valid.sum(1).tolist() == [937, 656]
    ours = [*found.states[:-1], found.output]
    assert len(ours) == len(expected.hidden_states) - 1 == 4
    scale = torch.randn(valid.sum(), 32)
    for one, other in zip(ours, expected.hidden_states[1:]):
        assert (one.transpose(0, 1)[valid] - other[valid]).abs().max() < 1e-4

    sum((s.transpose(0, 1)[valid] * scale).sum() for s in ours).backward()
    sum((s[valid] * scale).sum() for s in expected.hidden_states[1:]).backward()
    gradients = dict(encoder.w2v_model.named_parameters())
    assert len(gradients) == len(names)
    for name, parameter in theirs.named_parameters():
        gradient = gradients[names[name]].grad
        if parameter.grad is None:  # only masking uses it
            assert gradient is None and names[name] == "mask_emb"
        else:
            limit = 1e-3 * parameter.grad.abs().max() + 1e-4
            assert (gradient - parameter.grad).abs().max() < limit, name


def test_buckets_are_t5s():
    """arXiv 1910.10683: one bucket a distance up to 79, then logarithmic up to 800."""
    found = wavlm.bucket(torch.arange(-2000, 2001), 320, 800)
    assert found.min() == 0 and found.max() == 319
    for distance, bucket in zip(range(-2000, 2001), found.tolist()):
        size = abs(distance)
        if size >= 80:
            size = min(80 + int(np.log(np.float32(size / 80)) / np.log(10) * 80 + 1e-6), 159)
        assert abs(bucket - (size + 160 * (distance > 0))) <= (size > 80), distance
    assert found.tolist()[2000:2080] == [0, *range(161, 240)]


def test_attention_without_torchs_own(tmp_path, task, monkeypatch):
    encoder = build_model(save_wavlm(tmp_path / "w.pt"), task).eval().w2v_encoder
    source, padding = torch.randn(2, 9000), torch.arange(9000) >= torch.tensor([[9000], [6000]])
    with torch.no_grad():
        expected = encoder(source, padding)
        monkeypatch.delattr(F, "scaled_dot_product_attention")
        found = encoder(source, padding)
    for one, other in zip(found.states, expected.states):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_bias_is_there_when_layerdrop_skips_its_block(tmp_path, task):
    """Block 0 owns the table that all blocks read."""
    path = save_wavlm(tmp_path / "w.pt")
    encoder = build_model(path, task, layerdrop=0.5, dropout=0.0).train().w2v_encoder
    table = encoder.w2v_model.encoder.layers[0].self_attn.relative_attention_bias.weight
    np.random.seed(next(s for s in range(99) if _draws(s) == [True, False, False, False]))
    encoder(torch.randn(1, 9000), None).output.square().sum().backward()
    assert table.grad.abs().sum() > 0
    skipped = encoder.w2v_model.encoder.layers[0].fc1.weight
    assert skipped.grad is None


def _draws(seed):
    np.random.seed(seed)
    return (np.random.random(4) <= 0.5).tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision(tmp_path, task, dtype):
    device = torch.device("cpu" if dtype == torch.bfloat16 else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("fp16 needs a GPU")
    options = {"layer_norm_first": True, "extractor_mode": "layer_norm", "conv_pos_groups": 2}
    encoder = build_model(save_wavlm(tmp_path / "w.pt", **options), task).w2v_encoder.to(device)
    source, padding = torch.randn(2, 9000), torch.arange(9000) >= torch.tensor([[9000], [6000]])
    source, padding = source.to(device), padding.to(device)
    expected = encoder.eval()(source, padding)
    found = encoder.to(dtype)(source.to(dtype), padding)
    assert found.output.dtype == dtype
    for one, other in zip(found.states, expected.states):
        valid = ~expected.padding_mask.t()
        error = (one.float() - other)[valid].abs().mean() / other[valid].abs().mean()
        assert error < 0.05
    found.output.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_masking_while_training(tmp_path, task):
    path = save_wavlm(tmp_path / "w.pt")
    model = build_model(path, task, apply_mask=True, mask_prob=0.5, mask_length=2)
    encoder, source = model.w2v_encoder, torch.randn(1, 9000)
    with torch.no_grad():
        assert not torch.allclose(
            encoder.train()(source, None).output, encoder.eval()(source, None).output
        )
    encoder.train()(source, None).output.sum().backward()
    assert encoder.w2v_model.mask_emb.grad.abs().sum() > 0


def test_what_the_file_says_beyond_the_network_is_logged(tmp_path, task, caplog):
    path = save_wavlm(tmp_path / "w.pt", untie_final_proj=True)
    with caplog.at_level("INFO"):
        build_model(path, task)
    assert "2 keys of the checkpoint ignored: label_rate, untie_final_proj" in caplog.text


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: s["cfg"].pop("max_distance"), "its configuration lacks max_distance"),
        (lambda s: s["cfg"].update(gru_rel_pos=False), "gru_rel_pos=False, WavLM has True"),
        (
            lambda s: s["model"].pop("encoder.layers.1.self_attn.grep_a"),
            "missing encoder.layers.1.self_attn.grep_a, surplus none",
        ),
        (
            lambda s: s["model"].update(predictor=torch.ones(2)),
            "missing none, surplus predictor",
        ),
        (
            lambda s: s["cfg"].update(num_buckets=64),
            r"relative_attention_bias.weight \(32, 4\), expected \(64, 4\)",
        ),
        (lambda s: s.update(model=[1]), "is not a checkpoint that can be read"),
    ],
    ids=["config", "gate", "missing", "surplus", "shape", "model"],
)
def test_another_file_is_one_clear_line(tmp_path, task, spoil, message):
    path = save_wavlm(tmp_path / "w.pt")
    state = torch.load(path)
    spoil(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=message) as error:
        build_model(path, task)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
