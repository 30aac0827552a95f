"""What was written before the posterior was centred and had a step of its own loads with the
meaning it was trained with. tests/fixtures/before_centring: a tiny wav2vec 2.0, a LoRA run on
it, its adapter, and what they said of two utterances, alone and padded to a batch."""

import os
import shutil

import pytest
import torch
from conftest import REPO, write_corpus
from safetensors.torch import load_file

import varan_fairseq
from varan_fairseq.cli import export

FOLDER = os.path.join(REPO, "tests", "fixtures", "before_centring")
BASE, CHECKPOINT, ADAPTER = (
    os.path.join(FOLDER, name) for name in ("base.pt", "checkpoint.pt", "adapter")
)


@pytest.fixture(scope="module")
def expected():
    return load_file(os.path.join(FOLDER, "expected.safetensors"))


def says_the_same(model, expected):
    for index in (0, 1):
        found = model.run(expected[f"wave_{index}"].numpy())
        assert torch.allclose(found["log_q"].cpu(), expected[f"log_q_{index}"], atol=1e-5)
        emissions = model.model.get_logits(found).cpu()
        assert torch.allclose(emissions, expected[f"emissions_{index}"], atol=1e-4)


def test_checkpoint(expected, caplog):
    model = varan_fairseq.load(CHECKPOINT)
    assert model.cfg.model.combine == "best_layer"
    says_the_same(model, expected)
    assert "trained with model.posterior_lr_multiplier=1, which stays so" in caplog.text
    assert "trained with model.posterior_centred=0, which stays so" in caplog.text


def test_padded_batch(expected):
    """fairseq's group norm over the padding, or now as alone."""
    model = varan_fairseq.load(CHECKPOINT).model
    waves = [expected[f"wave_{index}"] for index in (0, 1)]
    source = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    mask = torch.arange(9000) >= torch.tensor([[9000], [6000]])
    device = next(model.parameters()).device
    source, mask = source.to(device), mask.to(device)
    frames = len(expected["emissions_1"])
    with torch.no_grad():
        alone = model.get_logits(model(source, mask))[:frames, 1].cpu()
        for norm in model.w2v_encoder.group_norms:
            norm.__class__ = torch.nn.GroupNorm
        then = model.get_logits(model(source, mask)).cpu()
    assert torch.allclose(alone, expected["emissions_1"][:, 0], atol=1e-4)
    assert torch.allclose(then, expected["emissions_batch"], atol=1e-4)


def test_adapter(expected):
    says_the_same(varan_fairseq.load(ADAPTER, base=BASE), expected)


def test_written_anew(expected, tmp_path):
    """Restored, and exported from the checkpoint with what it lacked filled in."""
    assert export.main(["restore", ADAPTER, BASE, str(tmp_path / "restored.pt")]) == 0
    says_the_same(varan_fairseq.load(str(tmp_path / "restored.pt")), expected)
    assert export.main(["adapter", CHECKPOINT, str(tmp_path / "adapter")]) == 0
    says_the_same(varan_fairseq.load(str(tmp_path / "adapter"), base=BASE), expected)


def test_training_goes_on(tmp_path):
    """With the options of today, the network of then."""
    from build import train

    data = write_corpus(tmp_path / "data")
    os.makedirs(str(tmp_path / "run"))
    shutil.copy(CHECKPOINT, str(tmp_path / "run" / "checkpoint_last.pt"))
    checkpoint = train(
        os.path.join(REPO, "examples", "wav2vec2_base_libri_100h_lora.yaml"),
        data,
        tmp_path / "run",
        BASE,
        updates=5,
        dataset={"valid_subset": "valid", "num_workers": 0, "max_tokens": 40000},
        model={
            "posterior_heads": 4,
            "lora_rank": 2,
            "mask_channel_length": 4,
            "apply_mask": False,
        },
    )
    state = torch.load(checkpoint)
    assert state["optimizer_history"][-1]["num_updates"] == 5
    assert state["model"]["aggregation.posterior.lr_multiplier"] == 1
    assert state["model"]["aggregation.posterior.centred"] == 0
