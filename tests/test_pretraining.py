"""The encoder of examples/evidence: what it hears, and its two rounds by stock fairseq."""

import filecmp
import os
import re

import pretrain
import pytest
import torch
from build import build_model, setup_task
from conftest import SMALL, command, shell, write_corpus

from varan_fairseq.data.manifest import read_manifest


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("prose"))
    options = ["--train", "6", "--valid", "2"]
    shell("manifests/sentences.py", folder, *options)
    return folder


def test_sentences(prose, tmp_path):
    texts = {}
    for split, count in (("train", 6), ("valid", 2)):
        manifest = read_manifest(os.path.join(prose, f"{split}.tsv"))
        with open(os.path.join(prose, f"{split}.wrd")) as file:
            texts[split] = file.read().splitlines()
        assert len(manifest.entries) == len(texts[split]) == count
        assert all(samples > 16000 for _, samples in manifest.entries)
        assert all(re.fullmatch(r"[A-Z][A-Z' ]+", text) for text in texts[split])
        assert all(3 <= len(text.split()) <= 14 for text in texts[split])
    assert not set(texts["train"]) & set(texts["valid"])
    options = ["--train", "6", "--valid", "2"]
    shell("manifests/sentences.py", tmp_path, *options)
    for name in ("train.wrd", "train/00003.wav"):
        assert filecmp.cmp(f"{prose}/{name}", tmp_path / name, shallow=False)


def test_all_speech_in_one_manifest(tmp_path):
    """That of humans as often as it says."""
    for name in pretrain.CORPORA:
        write_corpus(tmp_path / name, splits=("train", "valid"), count=3)
    pretrain.gather(str(tmp_path))
    manifest = read_manifest(str(tmp_path / "speech" / "train.tsv"))
    assert len(manifest.entries) == 3 * (4 + 4 + 1 + 1 + 1) and len(set(manifest.entries)) == 3 * 5
    assert all(os.path.isfile(os.path.join(manifest.root, path)) for path, _ in manifest.entries)
    assert not any("test" in path or "valid" in path for path, _ in manifest.entries)


def test_the_second_round(tmp_path, corpus, hubert):
    """Clusters of a first one's states, one a frame, and stock fairseq's HuBERT on them."""
    kmeans = ["examples/demo/kmeans.py", corpus, "--out", tmp_path / "states"]
    shell(*kmeans, "--clusters", "5", "--checkpoint", hubert, "--layer", "2")
    model = build_model(hubert, setup_task(corpus))
    manifest = read_manifest(os.path.join(corpus, "train.tsv"))
    with open(tmp_path / "states" / "train.km") as file:
        labels = [list(map(int, line.split())) for line in file]
    for each, (_, samples) in zip(labels, manifest.entries):
        frames = model.w2v_encoder.frames(torch.tensor([samples]))
        assert len(each) == frames and set(each) <= set(range(5))
    shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        "examples/evidence",
        "--config-name",
        "pretrain",
        f"task.data={corpus}",
        f"task.label_dir={tmp_path}/states",
        "task.label_rate=50",
        "model.label_rate=50",
        f"checkpoint.save_dir={tmp_path}/round2",
        "task.min_sample_size=1000",
        "dataset.max_tokens=80000",
        "optimization.max_update=3",
        *SMALL,
    )
    state = torch.load(tmp_path / "round2" / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 3


def test_prose_by_three_synthesizers(tmp_path):
    """Test voices, sentences and one synthesizer that training never hears."""
    from varan_fairseq.corpora import synthesizers

    if synthesizers.missing_programs():
        assert not os.environ.get("CI"), "CI has them: see .ci/run"
        pytest.skip("no flite or festival here")
    options = ["--train", "3", "--valid", "1", "--test", "5", "--seconds", "2", "5", "--seed", "2"]
    shell("manifests/prose.py", tmp_path, *options)
    texts, kinds = {}, {}
    for split, count in (("train", 3), ("valid", 1), ("test", 5)):
        manifest = read_manifest(str(tmp_path / f"{split}.tsv"))
        assert len(manifest.entries) == count
        assert all(2 <= samples / 16000 <= 5 for _, samples in manifest.entries)
        texts[split] = (tmp_path / f"{split}.wrd").read_text().splitlines()
        kinds[split] = (tmp_path / f"{split}.condition").read_text().split()
        assert len(kinds[split]) == count and all(len(text.split()) >= 3 for text in texts[split])
    assert "festival" in kinds["test"] and "festival" not in kinds["train"] + kinds["valid"]
    voices = synthesizers.SPLITS
    assert not set(voices["test"]) & set(voices["train"] + voices["valid"])


def test_prose_without_a_synthesizer(tmp_path, monkeypatch):
    from varan_fairseq.corpora import synthesizers

    monkeypatch.setattr(synthesizers, "PROGRAMS", {"flite": "no-such-program"})
    assert synthesizers.missing_programs() == ["flite"]
    failing = ["python", "-c", "import sys; sys.exit('no voice')"]
    with pytest.raises(RuntimeError, match="failed: no voice"):
        synthesizers._run(lambda out: failing, "")
