"""varan-inspect: what it says of every kind of checkpoint, against what is known of it."""

import os

import pytest
import torch
from build import build_model, setup_task, train
from conftest import ENCODERS, REPO, command, save_pretrained, shell, write_labelled_corpus
from test_upstream_checkpoint import save_finetuned

from varan_fairseq.cli import export, inspect_checkpoint

RECIPE = os.path.join(REPO, "examples", "wav2vec2_base_libri_10m.yaml")


def lines(path, capsys):
    """{name: value} of what is printed; of names that come twice, the last."""
    capsys.readouterr()  # fairseq's wav2vec_ctc prints itself
    assert inspect_checkpoint.main([str(path)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == str(path)
    return dict(line.strip().split(None, 1) for line in rest if not line.startswith("  train with"))


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("kind", ENCODERS)
def test_pretrained(tmp_path, capsys, kind, pre_norm, corpus):
    path = save_pretrained(tmp_path / "c.pt", kind, normalize=pre_norm, layer_norm_first=pre_norm)
    found = lines(path, capsys)
    encoder = build_model(path, setup_task(corpus, normalize=pre_norm)).w2v_encoder
    assert found["kind"].startswith(encoder.spec.title)
    assert found["layers"] == "4, width 32"
    assert found["normalisation"].startswith("pre-norm" if pre_norm else "post-norm")
    assert f"layers {'with' if encoder.raw_states else 'without'} a" in found["normalisation"]
    assert found["audio"] == f"16000 Hz, task.normalize={str(pre_norm).lower()}"
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert found["parameters"] == f"{count / 1e6:.2f} M in the encoder"


def test_a_run_of_ours_and_its_adapter(tmp_path, capsys, corpus, wav2vec2):
    data = {"dataset": {"valid_subset": "valid"}}
    model = {"lora_rank": 2, "posterior_heads": 4, "freeze_finetune_updates": 0}
    checkpoint = train(RECIPE, corpus, tmp_path / "out", wav2vec2, model=model, **data)
    assert export.main(["adapter", checkpoint, str(tmp_path / "adapter")]) == 0
    whole, adapter = lines(checkpoint, capsys), lines(tmp_path / "adapter", capsys)
    assert whole["kind"] == "wav2vec 2.0 (wav2vec2)" and adapter["kind"] == "wav2vec2"
    assert whole["fine-tuned"] == "3 updates" and adapter["adapter"].endswith(" 3 updates")
    said = "varan_ctc, aggregation varan, combine vote, layer_norm auto"
    objective = "prior uniform, prior_df auto, prior_nc 10.0, prior_p 0.45, beta 0.05"
    for found in (whole, adapter):
        assert found["base"].startswith("wav2vec2.pt, SHA-256 ")
        assert found["model"] == said and found["objective"] == objective
        assert found["posterior"] == "input"
        assert found["what"] == "trained   LoRA, rank 2, on ffn"
        assert sum(map(float, found["prior"].split())) == pytest.approx(1, abs=2e-3)
        assert found["labels"].startswith("9 (ltr): ") and " | " in found["labels"] + " "
    assert whole["base"] == adapter["base"] and whole["prior"] == adapter["prior"]


def test_a_classifier(tmp_path, capsys, hubert):
    data = write_labelled_corpus(tmp_path / "data")
    recipe = os.path.join(REPO, "examples", "hubert_base_ravdess.yaml")
    found = lines(train(recipe, data, tmp_path / "out", hubert), capsys)
    assert found["model"].startswith("varan_classification, aggregation varan")
    assert found["labels"] == "3 (emo): ang hap sad"


def test_fine_tuned_by_fairseq(tmp_path, capsys, corpus, wav2vec2):
    model = build_model(wav2vec2, setup_task(corpus), "wav2vec_ctc")
    found = lines(save_finetuned(tmp_path / "ctc.pt", model, "wav2vec_ctc"), capsys)
    assert found["kind"] == "wav2vec 2.0 (wav2vec2)"
    assert found["fine-tuned"].startswith("model wav2vec_ctc; as a start for training, without ")


def test_errors(tmp_path, capsys, wav2vec2):
    (tmp_path / "text.pt").write_text("no checkpoint")
    hole = torch.load(wav2vec2)
    del hole["model"]["mask_emb"]
    torch.save(hole, str(tmp_path / "hole.pt"))
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("gone.pt", "no checkpoint "),
        ("text.pt", "is not a checkpoint that can be read"),
        ("hole.pt", "missing mask_emb, surplus none"),
        ("empty", "is a folder with neither adapter.json (of an adapter) nor config.json"),
    ):
        assert inspect_checkpoint.main([str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and words in captured.err
        assert captured.err.startswith("varan-inspect: error: ") and captured.err.count("\n") == 1


def test_no_lines_of_other_libraries(hubert):
    """HuBERT's task and model log their whole configuration."""
    printed = shell(command("varan-inspect"), hubert)
    assert printed.splitlines()[0] == hubert and "INFO" not in printed
