"""The layer contract: always L states, equal to fairseq's own."""

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from conftest import save_pretrained

KINDS = [("wav2vec2", False), ("wav2vec2", True), ("hubert", False), ("hubert", True)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda p: p[0] + ("-pre" if p[1] else "-post"))
def checkpoint(request, tmp_path_factory):
    kind, pre_norm = request.param
    path = tmp_path_factory.mktemp("pre") / "checkpoint.pt"
    return save_pretrained(
        path,
        kind,
        layer_norm_first=pre_norm,
        extractor_mode="layer_norm" if pre_norm else "default",
    )


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


def waves(seconds=(1.0, 0.7)):
    torch.manual_seed(7)
    lengths = [int(16000 * second) for second in seconds]
    source = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        source[row, :length] = torch.randn(length)
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return source, mask


def fairseq_states(w2v_model, source, mask):
    """fairseq's own answer, one block more at a time: its output with the tower cut."""
    encoder, states = w2v_model.encoder, []
    every, norm = encoder.layers, encoder.layer_norm
    for count in range(1, len(every) + 1):
        encoder.layers = torch.nn.ModuleList(list(every)[:count])
        if encoder.layer_norm_first:  # read the raw residual stream
            encoder.layer_norm = torch.nn.Identity()
        result = w2v_model.extract_features(source=source, padding_mask=mask, mask=False)
        encoder.layer_norm = norm
        states.append((result["x"] if isinstance(result, dict) else result[0]).transpose(0, 1))
    encoder.layers = every
    return states


def test_states_are_fairseqs_own(checkpoint, task):
    encoder = build_model(checkpoint, task).eval().w2v_encoder
    source, mask = waves()
    with torch.no_grad():
        found = encoder(source, mask)
        expected = fairseq_states(encoder.w2v_model, source, mask)
        result = encoder.w2v_model.extract_features(source=source, padding_mask=mask, mask=False)
    assert len(found.states) == 4
    for one, other in zip(found.states, expected):
        assert torch.equal(one, other)
    output, padding = result if isinstance(result, tuple) else (result["x"], result["padding_mask"])
    assert torch.equal(found.output, output.transpose(0, 1))
    assert torch.equal(found.padding_mask, padding)
    assert found.lengths.tolist() == (~padding).sum(1).tolist()
    assert encoder.pre_norm == encoder.w2v_model.encoder.layer_norm_first
    assert torch.equal(found.states[-1], found.output) == (not encoder.pre_norm)


def test_layerdrop_never_shortens_the_list(checkpoint, task):
    encoder = build_model(checkpoint, task, layerdrop=0.5, dropout=0.0).train().w2v_encoder
    source, _ = waves((1.0, 1.0))
    counts = set()
    for seed in range(40):
        np.random.seed(seed)
        draws = np.random.random(4)
        skipped = (draws <= 0.5).tolist()
        np.random.seed(seed)
        states = encoder(source, None).states
        assert len(states) == 4
        for layer in range(1, 4):
            assert torch.equal(states[layer], states[layer - 1]) == skipped[layer]
        counts.add(sum(skipped))
    assert counts == {0, 1, 2, 3, 4}, "some number of skipped blocks was never drawn"


def test_all_blocks_skipped_gives_the_encoders_input(checkpoint, task):
    encoder = build_model(checkpoint, task, layerdrop=1.0, dropout=0.0).train().w2v_encoder
    found = encoder(waves((1.0, 1.0))[0], None)
    assert len(found.states) == 4
    assert all(torch.equal(state, found.states[0]) for state in found.states)
    if not encoder.pre_norm:
        assert torch.equal(found.states[-1], found.output)


@pytest.mark.parametrize("multiple", [1, 2, 16])
def test_padding_to_a_multiple_is_undone(tmp_path, task, multiple):
    path = save_pretrained(tmp_path / "m.pt", required_seq_len_multiple=multiple)
    encoder = build_model(path, task).eval().w2v_encoder
    source, mask = waves((1.013, 0.7))
    plain = build_model(save_pretrained(tmp_path / "p.pt", required_seq_len_multiple=1), task)
    with torch.no_grad():
        found, expected = encoder(source, mask), plain.eval().w2v_encoder(source, mask)
    frames = expected.output.shape[0]
    assert all(state.shape == (frames, 2, 32) for state in found.states)
    for one, other in zip(found.states, expected.states):
        valid = ~expected.padding_mask.t()
        assert torch.allclose(one[valid], other[valid], atol=1e-5)


def test_activation_checkpointing_changes_nothing(checkpoint, task):
    source, mask = waves()
    gradients = []
    for enabled in (False, True):
        encoder = build_model(checkpoint, task, checkpoint_activations=enabled).train().w2v_encoder
        found = encoder(source, mask)
        assert len(found.states) == 4
        sum(state.square().mean() for state in found.states).backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_no_hooks_stay_behind(checkpoint, task):
    encoder = build_model(checkpoint, task).w2v_encoder
    encoder(*waves())
    assert not any(
        m._forward_hooks or m._forward_pre_hooks
        for m in encoder.modules()
        if type(m).__name__ == "TransformerSentenceEncoderLayer"
    )


def test_freezing(checkpoint, task):
    model = build_model(checkpoint, task, freeze_finetune_updates=2).train()
    source, mask = waves()
    for update, frozen in ((0, True), (1, True), (2, False)):
        model.set_num_updates(update)
        assert model.w2v_encoder(source, mask).output.requires_grad != frozen
    out = model(source, mask)["layer_logits"][0]
    out.sum().backward()
    assert all(p.grad is None for p in model.w2v_encoder.w2v_model.feature_extractor.parameters())
    model = build_model(checkpoint, task, feature_grad_mult=1.0).train()
    model(source, mask)["layer_logits"][0].sum().backward()
    assert all(
        p.grad is not None for p in model.w2v_encoder.w2v_model.feature_extractor.parameters()
    )
