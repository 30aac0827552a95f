"""The layer contract: always L states, equal to the model's own, for every kind."""

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from conftest import ENCODERS, save_pretrained

from varan_fairseq.upstream.padding import current, during
from varan_fairseq.upstream.record import _RECORD
from varan_fairseq.upstream.specs import CONFORMER

KINDS = [(kind, pre_norm) for kind in ENCODERS for pre_norm in (False, True)]
KINDS.append(("conformer_rotary", False))


@pytest.fixture(scope="module", params=KINDS, ids=lambda p: p[0] + ("-pre" if p[1] else "-post"))
def checkpoint(request, tmp_path_factory):
    kind, pre_norm = request.param
    path = tmp_path_factory.mktemp("pre") / "checkpoint.pt"
    changes = {"extractor_mode": "layer_norm" if pre_norm else "default"}
    return save_pretrained(path, kind, layer_norm_first=pre_norm, **changes)


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


def own_states(encoder, source, mask):
    """The model's own answer, one block more at a time: its output with the tower cut, and
    without the final norm."""
    model, states = encoder.w2v_model, []
    if hasattr(model, "modality_encoders"):
        audio = model.modality_encoders["AUDIO"]
        lower, upper = audio.context_encoder.blocks, model.blocks

        def cut(count):
            audio.context_encoder.blocks = lower[:count]
            model.blocks = upper[: max(count - len(lower), 0)]
    else:
        every = model.encoder.layers

        def cut(count):
            model.encoder.layers = every[:count]

    for count in range(1, encoder.num_layers + 1):
        cut(count)
        norm = encoder.spec.final_norm(model)
        handle = norm and norm.register_forward_hook(lambda _, inputs, output: inputs[0])
        states.append(encoder.spec.extract(model, source, mask, False)[0].transpose(0, 1))
        if handle:
            handle.remove()
    return states


def test_states_are_the_models_own(checkpoint, task):
    encoder = build_model(checkpoint, task).eval().w2v_encoder
    source, mask = waves()
    with torch.no_grad():
        found = encoder(source, mask)
        with during(encoder.valid(source, mask)):
            output, padding = encoder.spec.extract(encoder.w2v_model, source, mask, False)
            expected = own_states(encoder, source, mask)
    assert len(found.states) == len(expected) == 4
    for one, other in zip(found.states, expected):
        assert torch.equal(one, other)
    assert torch.equal(found.output, output.transpose(0, 1))
    assert torch.equal(found.padding_mask, padding)
    assert found.lengths.tolist() == (~padding).sum(1).tolist()
    normed = encoder.spec.final_norm(encoder.w2v_model) is not None
    assert torch.equal(found.states[-1], found.output) == (not normed)


LENGTHS = [(16399, 6480), (16000, 9000), (12345, 11999), (15999, 12321)]
QUIET = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "dropout_input"), 0.0)


def in_a_batch(lengths, seed=7):
    """Noise padded with noise, which nothing may read, and its mask."""
    torch.manual_seed(seed)
    source = torch.randn(len(lengths), max(lengths))
    return source, torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("training", [False, True])
def test_padding_does_not_change_the_emissions(checkpoint, task, training):
    """Of no kind, for any length, with group norm or layer norm in the feature encoder. A
    Conformer's batch norm averages over the batch while training; see below."""
    model = build_model(checkpoint, task, apply_mask=False, **QUIET).train(training)
    if training and model.w2v_encoder.spec is CONFORMER:
        model.w2v_encoder.w2v_model.encoder.eval()
    for lengths in LENGTHS:
        source, mask = in_a_batch(lengths)
        with torch.no_grad():
            together = model(source, mask)
            emissions = model.get_logits(together)
            for row, samples in enumerate(lengths):
                alone = model(source[row : row + 1, :samples], None)
                single = model.get_logits(alone)[:, 0]
                frames = len(single)
                assert together["lengths"][row] == frames
                assert (emissions[:frames, row] - single).abs().max() < 1e-4
                assert torch.allclose(together["log_q"][row], alone["log_q"][0], atol=1e-4)


def has_option(kind, option):
    from fairseq.models import MODEL_DATACLASS_REGISTRY

    return option in MODEL_DATACLASS_REGISTRY[kind].__dataclass_fields__


# Of each kind, every option of its positional convolution that this fairseq has.
POSITIONAL = [
    (kind, option, value)
    for kind, option, value in [
        ("wav2vec2", "pos_conv_depth", 1),
        ("wav2vec2", "pos_conv_depth", 3),
        ("hubert", "pos_conv_depth", 3),
        ("hubert", "conv_pos_batch_norm", False),
        ("hubert", "conv_pos_batch_norm", True),
        ("data2vec_audio", "pos_conv_depth", 5),
    ]
    if kind == "data2vec_audio" or has_option(kind, option)
]


@pytest.mark.parametrize("kind, option, value", POSITIONAL)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_positional_convolutions_do_not_see_padding(kind, option, value, pre_norm, task, tmp_path):
    options = {option: value, "layer_norm_first": pre_norm}
    model = build_model(save_pretrained(tmp_path / "c.pt", kind, **options), task).eval()
    for part in model.modules():  # as trained ones: silence is not 0 behind them
        if isinstance(part, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(part.bias)
            torch.nn.init.normal_(part.running_mean)
    for lengths in LENGTHS[:2]:
        source, mask = in_a_batch(lengths)
        with torch.no_grad():
            together = model.w2v_encoder(source, mask)
            for row, samples in enumerate(lengths):
                alone = model.w2v_encoder(source[row : row + 1, :samples], None)
                for one, other in zip(together.states, alone.states):
                    assert torch.allclose(one[: len(other), row], other[:, 0], atol=1e-4)


@pytest.mark.parametrize("kind", ["conformer", "conformer_relative"])
def test_batch_norm_does_not_see_padding(kind, task, tmp_path):
    path = save_pretrained(tmp_path / "c.pt", kind)
    model = build_model(path, task, apply_mask=False, **QUIET).train()
    source, mask = in_a_batch((9000, 6480))
    longer = torch.cat([source, torch.randn(2, 5000)], dim=1)
    padded = torch.cat([mask, torch.ones(2, 5000, dtype=torch.bool)], dim=1)
    with torch.no_grad():
        short, long = model(source, mask), model(longer, padded)
    for row, frames in enumerate(short["lengths"].tolist()):
        for one, other in zip(short["layer_logits"], long["layer_logits"]):
            assert torch.allclose(one[:frames, row], other[:frames, row], atol=1e-4)


def test_fairseqs_group_norm_is_an_option_away(task, tmp_path):
    """It reads the padding."""
    path = save_pretrained(tmp_path / "c.pt")
    source, mask = in_a_batch((16000, 9000))
    found = []
    for option in (True, False):
        encoder = build_model(path, task, mask_group_norm=option).eval().w2v_encoder
        with torch.no_grad():
            found.append(encoder(source, mask).output[:27, 1])
            alone = encoder(source[1:, :9000], None).output[:, 0]
    assert torch.allclose(found[0], alone, atol=1e-4)
    assert not torch.allclose(found[1], alone, atol=1e-2)


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
    if encoder.spec.final_norm(encoder.w2v_model) is None:
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
        sum(state.pow(3).mean() for state in found.states).backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=2e-6), name


@pytest.mark.skipif("data2vec_multi" not in ENCODERS, reason="fairseq 0.12.2 has no data2vec 2.0")
def test_data2vec2_with_all_it_can_have(tmp_path, task):
    """Tokens before the first frame are no frames; other modalities' weights are left out."""
    path = save_pretrained(tmp_path / "c.pt", "data2vec_multi", num_extra_tokens=2)
    state = torch.load(path)
    assert any(name.startswith("_ema") for name in state["model"])
    state["cfg"]["model"]["supported_modality"] = None
    state["model"]["modality_encoders.TEXT.local_encoder.weight"] = torch.ones(1)
    torch.save(state, path)
    encoder = build_model(path, task).eval().w2v_encoder
    source, mask = waves()
    with torch.no_grad():
        found = encoder(source, mask)
        with during(encoder.valid(source, mask)):
            expected = own_states(encoder, source, mask)
    assert found.lengths.tolist() == [49, 34] and found.output.shape == (49, 2, 32)
    for one, other in zip(found.states, expected):
        assert torch.equal(one, other)
    assert torch.equal(found.states[-1], found.output)


def test_nothing_of_a_call_stays_behind(checkpoint, task):
    encoder = build_model(checkpoint, task).w2v_encoder
    encoder(*waves())
    assert current() is None and _RECORD.get() is None
    with pytest.raises(RuntimeError):
        encoder(torch.zeros(1, 16000, dtype=torch.long), None)
    assert current() is None and _RECORD.get() is None


def features(model):
    prefix = model.w2v_encoder.spec.features.rstrip(".")
    return model.w2v_encoder.w2v_model.get_submodule(prefix).parameters()


def test_freezing(checkpoint, task):
    model = build_model(checkpoint, task, freeze_finetune_updates=2).train()
    source, mask = waves()
    for update, frozen in ((0, True), (1, True), (2, False)):
        model.set_num_updates(update)
        assert model.w2v_encoder(source, mask).output.requires_grad != frozen
    out = model(source, mask)["layer_logits"][0]
    out.sum().backward()
    assert all(p.grad is None for p in features(model))
    model = build_model(checkpoint, task, feature_grad_mult=1.0).train()
    model(source, mask)["layer_logits"][0].sum().backward()
    assert all(p.grad is not None for p in features(model))
