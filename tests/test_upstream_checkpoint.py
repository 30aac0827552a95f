"""Checkpoint formats: fairseq's new and old one, and fine-tuned models as a start."""

from argparse import Namespace

import pytest
import torch
from build import build_model, setup_task
from conftest import save_pretrained
from omegaconf import OmegaConf
from test_model import stock_model

from varan_fairseq.upstream import read_checkpoint


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


def assert_same_encoder(one, other):
    one, other = one.w2v_encoder.state_dict(), other.w2v_encoder.state_dict()
    assert list(one) == list(other) and len(one) > 50
    for name in one:
        assert torch.equal(one[name], other[name]), name


def configuration(model):
    """Of the encoder, without where it came from and what only pre-training reads."""
    cfg = OmegaConf.to_container(model.cfg.w2v_args.model)
    return {k: v for k, v in cfg.items() if k not in ("w2v_args", "_name")}


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_old_format(tmp_path, task, kind, pre_norm):
    options = {"layerdrop": 0.25, "mask_prob": 0.4, "dropout": 0.3}
    models = [
        build_model(
            save_pretrained(
                tmp_path / name, kind, old_format=old, layer_norm_first=pre_norm, conv_pos=8
            ),
            task,
            **options,
        )
        for name, old in (("new.pt", False), ("old.pt", True))
    ]
    assert torch.load(str(tmp_path / "old.pt"))["cfg"] is None
    assert_same_encoder(*models)
    new, old = map(configuration, models)
    assert {key: value for key, value in old.items() if key in new} == new
    source = torch.randn(1, 9000)
    with torch.no_grad():
        outputs = [model.eval()(source)["layer_logits"][-1] for model in models]
    assert torch.equal(*outputs)


def test_configuration_saved_as_an_object(tmp_path, task, wav2vec2):
    """As fairseq saved it for some months of 2020 and 2021."""
    state = torch.load(wav2vec2)
    state["cfg"] = OmegaConf.create(state["cfg"])
    torch.save(state, str(tmp_path / "object.pt"))
    models = [build_model(path, task) for path in (wav2vec2, str(tmp_path / "object.pt"))]
    assert_same_encoder(*models)


def save_finetuned(path, model, name, with_encoder=True):
    """As fairseq saves a fine-tuned model."""
    cfg = OmegaConf.to_container(OmegaConf.create({"model": model.cfg}), enum_to_str=True)
    cfg["model"].update(_name=name)
    if not with_encoder:
        cfg["model"]["w2v_args"] = None
    state = {"cfg": cfg, "args": None, "model": model.state_dict()}
    state["optimizer_history"] = [{"num_updates": 0, "lr_scheduler_state": {}}]
    state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    torch.save(state, str(path))
    return str(path)


@pytest.fixture
def finetuned(tmp_path, task, wav2vec2, hubert):
    """name -> (model with other weights than its base, its checkpoint)"""

    def make(name, **options):
        if name in ("wav2vec_ctc", "hubert_ctc"):
            kind = "hubert" if name == "hubert_ctc" else "wav2vec2"
            model = stock_model(kind, {"hubert": hubert, "wav2vec2": wav2vec2}[kind], task)
        else:
            model = build_model(hubert, task, name, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01
        return model, save_finetuned(tmp_path / f"{name}.pt", model, name)

    return make


@pytest.mark.parametrize("name", ["wav2vec_ctc", "hubert_ctc", "varan_ctc"])
def test_a_fine_tuned_model_as_a_start(finetuned, task, caplog, name):
    model, path = finetuned(name)
    with caplog.at_level("INFO"):
        started = build_model(path, task, layerdrop=0.3)
    ours, theirs = started.w2v_encoder.state_dict(), model.w2v_encoder.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert started.cfg.w2v_args.model.encoder_layerdrop == 0.3
    assert started.cfg.w2v_args.source.file == f"{name}.pt"
    dropped = {
        "wav2vec_ctc": "w2v_encoder.proj (429)",
        "hubert_ctc": "w2v_encoder.proj (429)",
        "varan_ctc": "aggregation.posterior (7,331), aggregation.heads (1,716), prior.probs (4)",
    }
    said = f"fine-tuned with model {name}: its encoder is kept, its other weights are not: "
    assert said in caplog.text
    for part in dropped[name].split("), "):
        assert part in caplog.text


def test_a_model_fine_tuned_in_the_old_format(finetuned, task, tmp_path):
    """argparse's `args`, and those of the encoder inside."""
    model, path = finetuned("wav2vec_ctc")
    state = torch.load(path)
    cfg = state["cfg"]["model"]
    inner = {**cfg["w2v_args"]["task"], **cfg["w2v_args"]["model"]}
    inner.update(arch="wav2vec2", task="audio_pretraining", criterion="wav2vec")
    inner.pop("_name")
    outer = {**cfg, "arch": "wav2vec_ctc", "task": "audio_pretraining", "criterion": "ctc"}
    outer.pop("_name")
    state.update(cfg=None, args=Namespace(**{**outer, "w2v_args": Namespace(**inner)}))
    torch.save(state, str(tmp_path / "old.pt"))
    ours = build_model(str(tmp_path / "old.pt"), task).w2v_encoder.state_dict()
    theirs = model.w2v_encoder.state_dict()
    assert len(ours) > 50 and set(theirs) - set(ours) == {"proj.weight", "proj.bias"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_model_fine_tuned_with_lora_has_to_be_merged_first(finetuned, task):
    _, path = finetuned("varan_ctc", lora_rank=2)
    with pytest.raises(ValueError, match="fine-tuned with LoRA, .* varan-export merge"):
        build_model(path, task)


def test_a_fine_tuned_model_without_its_encoders_configuration(finetuned, task, tmp_path):
    model, _ = finetuned("hubert_ctc")
    path = save_finetuned(tmp_path / "bare.pt", model, "hubert_ctc", with_encoder=False)
    with pytest.raises(ValueError, match="without the configuration of its encoder"):
        build_model(path, task)


def test_what_is_read(finetuned):
    _, path = finetuned("varan_ctc")
    read = read_checkpoint(path)
    assert read.spec.title == "HuBERT" and read.finetuned == "varan_ctc"
    assert read.config.model._name == "hubert"
