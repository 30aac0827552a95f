"""What trains: model.finetune, the LoRA options, and the encoder's own weights."""

import logging

import pytest
import torch
from build import batch, build_criterion, build_model, setup_task
from conftest import ENCODERS, save_pretrained
from fairseq import utils

from varan_fairseq.lora import LoraLinear, lora_parameters

_FFN, _ATTENTION = ["fc1", "fc2"], [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")]
_CONFORMER_FFN = [f"ffn{n}.w_{m}" for n in (1, 2) for m in (1, 2)]
# (ffn, attention): linear layers of a block
TARGETS = {
    "wav2vec2": (_FFN, _ATTENTION),
    "hubert": (_FFN, _ATTENTION),
    "wavlm": (_FFN, _ATTENTION),
    "data2vec_audio": (_FFN, _ATTENTION),
    "data2vec_multi": (["mlp.fc1", "mlp.fc2"], ["attn.qkv", "attn.proj"]),
    "conformer": (_CONFORMER_FFN, _ATTENTION),
    "conformer_relative": (
        _CONFORMER_FFN,
        [f"self_attn.linear_{x}" for x in ("q", "k", "v", "out", "pos")],
    ),
}
PRE_NORM = ("wav2vec2", "hubert", "wavlm")
LORA = {"lora_rank": 2, "apply_mask": False}


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


def trained_of(model):
    return {name for name, p in model.w2v_encoder.named_parameters() if p.requires_grad}


def step(model, task, updates=1, lr=1e-2):
    """Some updates with everything that could move a frozen weight."""
    criterion = build_criterion(task)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.1)
    for update in range(updates):
        model.set_num_updates(update)
        optimizer.zero_grad()
        criterion(model, batch(task))[0].backward()
        optimizer.step()


@pytest.mark.parametrize("magnitude", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("targets", ["ffn", "attention", "all"])
@pytest.mark.parametrize(
    "kind, pre_norm",
    [(kind, False) for kind in ENCODERS] + [(kind, True) for kind in PRE_NORM],
)
def test_every_adapter_learns_and_the_encoder_stays(
    tmp_path, task, kind, pre_norm, targets, magnitude
):
    path = save_pretrained(tmp_path / "c.pt", kind, layer_norm_first=pre_norm)
    plain = build_model(path, task).eval()
    model = build_model(path, task, lora_targets=targets, lora_magnitude=magnitude, **LORA)
    encoder = model.w2v_encoder.w2v_model
    ffn, attention = TARGETS[kind]
    wanted = {"ffn": ffn, "attention": attention, "all": ffn + attention}[targets]
    for block in model.w2v_encoder.spec.blocks(encoder):
        adapted = {name for name, child in block.named_modules() if isinstance(child, LoraLinear)}
        assert adapted == set(wanted)
    assert sum(isinstance(child, LoraLinear) for child in encoder.modules()) == 4 * len(wanted)

    # at initialisation, the base model to the last bit
    sample = batch(task)
    model.aggregation.load_state_dict(plain.aggregation.state_dict())
    with torch.no_grad():  # with a graph, torch chooses attention by what needs gradients
        outputs = [m.eval().get_logits(m(**sample["net_input"])) for m in (plain, model)]
    assert torch.equal(*outputs)

    # B starts at zero, so A and what it feeds learn from the second update on
    base = {name: p.clone() for name, p in encoder.named_parameters() if not p.requires_grad}
    model.train()
    step(model, task, updates=2)
    idle = [
        name for name, p in lora_parameters(encoder).items() if p.grad is None or not p.grad.any()
    ]
    assert idle == []
    assert trained_of(model) == {f"w2v_model.{name}" for name in lora_parameters(encoder)}
    saved = torch.load(path)["model"]
    for name, parameter in encoder.named_parameters():
        if name in base:
            assert parameter.grad is None and torch.equal(parameter, base[name]), name
            assert torch.equal(parameter, saved[name]), name
    assert len(base) == len(list(plain.w2v_encoder.parameters()))


@pytest.mark.parametrize(
    "finetune", [{"lora_rank": 2}, {"finetune": "probe"}], ids=["lora", "probe"]
)
def test_weighted_sum_trains_its_scalars(wav2vec2, task, finetune):
    model = build_model(wav2vec2, task, aggregation="weighted_sum", **finetune)
    step(model.train(), task)
    assert model.aggregation.scalars.grad.any() and model.aggregation.scalars.any()


def test_rank_alone_turns_lora_on(wav2vec2, task):
    assert trained_of(build_model(wav2vec2, task, lora_rank=1, finetune="lora")) == trained_of(
        build_model(wav2vec2, task, lora_rank=1)
    )


def test_probe_runs_without_a_graph(wav2vec2, task):
    model = build_model(wav2vec2, task, finetune="probe").train()
    assert trained_of(model) == set()
    encoded = model.w2v_encoder(
        **{k: batch(task)["net_input"][k] for k in ("source", "padding_mask")}
    )
    assert not any(state.requires_grad for state in [*encoded.states, encoded.output])
    before = {name: p.clone() for name, p in model.named_parameters()}
    step(model, task)
    moved = {
        name.partition(".")[0] for name, p in model.named_parameters() if (p != before[name]).any()
    }
    assert moved == {"aggregation"}


def test_full_freezes_the_feature_encoder_unless_told(wav2vec2, task):
    frozen = trained_of(build_model(wav2vec2, task))
    trained = trained_of(build_model(wav2vec2, task, feature_grad_mult=0.1))
    assert {name.split(".")[1] for name in trained - frozen} == {"feature_extractor"}
    assert not any("feature_extractor" in name for name in frozen) and len(frozen) > 60
    lora = trained_of(build_model(wav2vec2, task, lora_rank=2, feature_grad_mult=1.0))
    assert {name for name in lora if "lora" not in name} == trained - frozen


def test_norms_and_biases_beside_lora(wav2vec2, task):
    def extra(option):
        names = trained_of(build_model(wav2vec2, task, lora_extra=option, **LORA))
        return {name for name in names if "lora_" not in name}

    norms, biases = extra("norms"), extra("biases")
    assert extra("none") == set()
    assert all("layer_norm" in name for name in norms) and len(norms) == 2 * (2 * 4 + 1) + 2
    # q, k, v, out, fc1, fc2 of four blocks; positional convolution; projection of the features
    assert all(name.endswith("bias") for name in biases) and len(biases) == 6 * 4 + 2
    assert not norms & biases and extra("norms, biases") == norms | biases


def test_freeze_regex(wav2vec2, task):
    options = {"freeze_regex": r"w2v_model\.encoder\.layers\.[01]\..*"}
    if not hasattr(build_model(wav2vec2, task).cfg, "freeze_regex"):
        pytest.skip("fairseq 0.12.2 has no freeze_regex")
    for mode in ({}, LORA):
        names = trained_of(build_model(wav2vec2, task, **options, **mode))
        assert names and not any(".layers.0." in name or ".layers.1." in name for name in names)


def test_glob_patterns_are_names_of_the_checkpoint(wav2vec2, task):
    model = build_model(
        wav2vec2, task, lora_targets="encoder.layers.[23].fc2, post_extract_proj", **LORA
    )
    owners = {name[len("w2v_model.") :].rpartition(".")[0] for name in trained_of(model)}
    assert owners == {"encoder.layers.2.fc2", "encoder.layers.3.fc2", "post_extract_proj"}


def test_freeze_finetune_updates(wav2vec2, task):
    model = build_model(wav2vec2, task, freeze_finetune_updates=2, **LORA).train()
    factors = lora_parameters(model)
    step(model, task, updates=2)
    assert all(p.grad is None for p in factors.values())
    model.set_num_updates(2)
    build_criterion(task)(model, batch(task))[0].backward()
    assert all(p.grad is not None for p in factors.values())


@pytest.mark.parametrize("targets", ["ffn", "encoder.layers.2.fc1"])
def test_activation_checkpointing(wav2vec2, task, targets):
    """fairseq recomputes blocks whose inputs need no gradient: adapters must get theirs."""
    no_dropout = dict.fromkeys(
        ("dropout", "attention_dropout", "activation_dropout", "dropout_input", "layerdrop"), 0.0
    )
    grads = []
    for recompute in (False, True):
        options = {"checkpoint_activations": recompute, "lora_targets": targets, **LORA}
        model = build_model(wav2vec2, task, **options, **no_dropout).train()
        torch.manual_seed(3)
        for parameter in lora_parameters(model).values():
            parameter.data += 0.1 * torch.randn_like(parameter)
        build_criterion(task)(model, batch(task))[0].backward()
        grads.append({name: p.grad for name, p in lora_parameters(model).items()})
    for name, grad in grads[0].items():
        assert grad.any() and torch.allclose(grads[1][name], grad, rtol=1e-4, atol=1e-6), name


def test_half_precision(wav2vec2, task):
    """fp16 on a GPU; bfloat16 stands in for it on a CPU, where fp16 lacks kernels."""
    cuda = torch.cuda.is_available()
    target = ("cuda", torch.float16) if cuda else ("cpu", torch.bfloat16)
    for options in ({"lora_targets": "all"}, {"lora_targets": "ffn", "lora_magnitude": True}):
        model = build_model(wav2vec2, task, **LORA, **options).to(*target).train()
        sample = batch(task)
        sample = utils.move_to_cuda(sample) if cuda else sample
        sample["net_input"]["source"] = sample["net_input"]["source"].to(target[1])
        build_criterion(task)(model, sample)[0].backward()
        for name, parameter in lora_parameters(model).items():
            assert parameter.grad.dtype == target[1], name
            assert torch.isfinite(parameter.grad).all(), name


def test_log_of_what_trains(wav2vec2, task, caplog):
    with caplog.at_level(logging.INFO, "varan_fairseq"):
        model = build_model(wav2vec2, task, lora_magnitude=True, **LORA)
    rows = {}
    for record in caplog.messages:
        if " of " in record and record.startswith("  "):
            group, _, numbers = record.strip().partition("  ")
            rows[group] = [int(n.strip().replace(",", "")) for n in numbers.split(" of ")]
    assert rows["low-rank factors"] == [2 * 4 * 2 * (32 + 64)] * 2
    assert rows["magnitudes"] == [4 * (32 + 64)] * 2
    assert rows["posterior"] == [7 * 32**2 + 5 * 32 + 1] * 2
    assert rows["transformer"][0] == rows["feature encoder"][0] == 0 < rows["feature encoder"][1]
    assert sum(row[0] for row in rows.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert sum(row[1] for row in rows.values()) == sum(p.numel() for p in model.parameters())
    assert any(message.startswith("trained parameters: ") for message in caplog.messages)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"finetune": "some"}, "model.finetune=some: choose one of auto, full, lora, probe"),
        (
            {"finetune": "lora"},
            "model.finetune=lora, but model.lora_rank=0: set model.lora_rank=16",
        ),
        ({"finetune": "full", "lora_rank": 4}, "model.finetune=full, but model.lora_rank=4"),
        ({"finetune": "probe", "lora_rank": 4}, "model.finetune=probe, but model.lora_rank=4"),
        ({"finetune": "probe", "feature_grad_mult": 0.1}, "set model.feature_grad_mult=0"),
        ({"lora_rank": -1}, "model.lora_rank=-1"),
        ({"lora_magnitude": True}, "model.lora_magnitude=True .* mean nothing without adapters"),
        ({"lora_extra": "norms", "finetune": "probe"}, "model.lora_extra=norms mean nothing"),
        ({"lora_extra": "all"}, "model.lora_extra=all: choose none, norms, biases"),
        (
            {"lora_rank": 4, "lora_targets": "*.fc3"},
            r"model.lora_targets=\*.fc3: .*matches no linear layer; there are .*encoder.layers.\*.fc1.*"
            r"ffn, attention, all",
        ),
        ({"lora_rank": 4, "lora_alpha": 0.0}, "alpha must be a finite number > 0"),
        (
            {"lora_rank": 4, "lora_dropout": 0.1, "lora_targets": "all"},
            "model.lora_dropout=0.1 is not possible with model.lora_targets=all.*attention reads",
        ),
        (
            {"lora_rank": 4, "lora_dropout": 0.1, "lora_targets": "*q_proj"},
            "set model.lora_dropout=0",
        ),
    ],
)
def test_bad_options(wav2vec2, task, options, words):
    with pytest.raises(ValueError, match=words):
        build_model(wav2vec2, task, **options)


@pytest.mark.parametrize("kind", ENCODERS)
def test_dropout_where_layers_are_called(tmp_path, task, kind):
    """fairseq's attention reads its weights; that of WavLM, data2vec 2.0, ESPnet calls it."""
    calls = kind in ("wavlm", "data2vec_multi", "conformer_relative")
    options = {"lora_dropout": 0.5, "lora_targets": "all" if calls else "ffn", **LORA}
    step(build_model(save_pretrained(tmp_path / "c.pt", kind), task, **options).train(), task)
