"""Classifiers from fairseq's own training command to reports, adapters and folds."""

import csv
import glob
import json
import os
import re
import shutil

import build
import numpy as np
import preloaded
import pytest
import torch
from conftest import CLASSES, REPO, command, save_pretrained, shell, write_labelled_corpus
from sklearn import metrics as reference
from test_bad_input import tool

import varan_fairseq
from varan_fairseq.cli import classify, crossval, export, layers
from varan_fairseq.report import crossval as folds

TINY = ["common.fp16=false", "common.cpu=true", "common.log_interval=1", "dataset.num_workers=0"]
TINY += ["dataset.batch_size=3", "model.posterior_heads=4", "lr_scheduler.warmup_updates=1"]
LORA = ["model.lora_rank=4", "model.lora_targets=all", "optimization.lr=[0.01]"]


def train(folder, data, *overrides, cwd=REPO):
    return shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        os.path.join(REPO, "examples"),
        "--config-name",
        "hubert_base_ravdess",
        "common.user_dir=varan_fairseq",
        f"task.data={data}",
        f"checkpoint.save_dir={folder}/out",
        *TINY,
        *overrides,
        cwd=cwd,
    )


@pytest.fixture(scope="module", params=["wav2vec2-full", "hubert-lora"])
def run(request, tmp_path_factory):
    """A run that was stopped and resumed, with relative paths, whose pre-trained file moved
    away. Returns (folder, data, checkpoint, log of the resumed run)."""
    kind, mode = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    data = write_labelled_corpus(folder / "data", count=9)
    # layer norm: padding changes the statistics of fairseq's group norm
    save_pretrained(folder / "base.pt", kind, extractor_mode="layer_norm")
    relative = os.path.relpath(str(folder), REPO)
    more = LORA if mode == "lora" else ["optimization.lr=[0.001]"]
    for updates in (3, 9):
        log = train(
            relative,
            f"{relative}/data",
            f"model.w2v_path={relative}/base.pt",
            f"optimization.max_update={updates}",
            "dataset.num_workers=2" if mode == "full" else "optimization.update_freq=[2]",
            *more,
        )
    shutil.move(str(folder / "base.pt"), str(folder / "moved.pt"))
    return folder, data, str(folder / "out" / "checkpoint_last.pt"), log


def test_training_resumes_and_logs(run):
    _, _, checkpoint, log = run
    assert "Loaded checkpoint" in log and re.search(r"@ 3 updates", log)
    state = torch.load(checkpoint)
    assert state["optimizer_history"][-1]["num_updates"] == 9
    assert state["task_state"]["target_dictionary"].symbols == list(CLASSES)
    for key in ("accuracy", "unweighted_accuracy", "macro_f1", "weighted_f1", "recall_sad"):
        assert f'"valid_{key}"' in log and f'"train_{key}"' in log, key
    assert '"valid_best_unweighted_accuracy"' in log and '"valid_nll_04"' in log
    assert "train: 9 utterances (ang 3, hap 3, sad 3)" in log


def rows(path):
    with open(str(path)) as file:
        return list(csv.DictReader(file, delimiter="\t"))


def run_classify(*arguments):
    assert classify.main([str(argument) for argument in arguments]) == 0


def test_a_split(run, tmp_path, capsys):
    folder, data, checkpoint, _ = run
    run_classify(checkpoint, data, "test", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    found = rows(tmp_path / "out" / "utterances.tsv")
    assert [row["id"] for row in found] == [f"test{index}.wav" for index in range(9)]
    assert [row["label"] for row in found] == list(CLASSES) * 3
    probs = np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in found])
    q = np.array([[float(row[f"q_{layer}"]) for layer in range(1, 5)] for row in found])
    assert np.allclose(probs.sum(1), 1, atol=1e-5) and np.allclose(q.sum(1), 1, atol=1e-5)
    predicted = [row["predicted"] for row in found]
    assert predicted == [CLASSES[index] for index in probs.argmax(1)]

    with open(str(tmp_path / "out" / "scores.json")) as file:
        scores = json.load(file)
    truth = [row["label"] for row in found]
    assert scores["utterances"] == 9
    assert scores["accuracy"] == pytest.approx(100 * reference.accuracy_score(truth, predicted))
    macro = reference.f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(100 * macro)
    assert f"accuracy {scores['accuracy']:.2f}%" in printed
    matrix = reference.confusion_matrix(truth, predicted, labels=CLASSES)
    with open(str(tmp_path / "out" / "confusion.csv")) as file:
        table = list(csv.reader(file))
    assert table[0] == ["label", *CLASSES]
    assert table[1:] == [[name, *map(str, row)] for name, row in zip(CLASSES, matrix)]
    with open(str(tmp_path / "out" / "confusion.png"), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert sorted(os.listdir(str(tmp_path))) == ["out"]

    # another reading, and the default folder
    run_classify(checkpoint, data, "test", "--layer", "2")
    with open(str(folder / "out" / "classify-test-checkpoint_last-layer2" / "scores.json")) as file:
        assert json.load(file)["reading"] == {"decode_layer": 2}


def test_files_python_and_the_report_agree(run, tmp_path, capsys):
    _, data, checkpoint, _ = run
    run_classify(checkpoint, data, "test", "--out", tmp_path / "out")
    split = rows(tmp_path / "out" / "utterances.tsv")
    paths = [os.path.join(data, "wav", f"test{index}.wav") for index in (0, 4)]
    capsys.readouterr()
    run_classify(checkpoint, *paths)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("id\tpredicted\tp_ang") and len(lines) == 3
    model = varan_fairseq.load(checkpoint)
    assert layers.main([checkpoint, data, "test", "--by-class", "--out", f"{tmp_path}/r"]) == 0
    assert "  hap: 0." in capsys.readouterr().out
    report = rows(tmp_path / "r.tsv")
    assert [row["label"] for row in report] == list(CLASSES) * 3
    for line, path, index in zip(lines[1:], paths, (0, 4)):
        values = [float(value) for value in line.split("\t")[2:]]
        columns = [f"p_{name}" for name in CLASSES] + [f"q_{layer}" for layer in range(1, 5)]
        assert values == pytest.approx([float(split[index][key]) for key in columns], abs=3e-3)
        probs = model.classify(path)
        assert list(probs.values()) == sorted(probs.values(), reverse=True)
        assert [probs[name] for name in CLASSES] == pytest.approx(values[:3], abs=1e-5)
        assert model.layer_posterior(path).tolist() == pytest.approx(values[3:], abs=1e-5)
        for layer in range(1, 5):
            assert report[index][f"q_{layer}"] == split[index][f"q_{layer}"]


def test_a_split_without_labels(run, tmp_path, capsys):
    _, data, checkpoint, _ = run
    shutil.copy(os.path.join(data, "test.tsv"), str(tmp_path / "new.tsv"))
    run_classify(checkpoint, data, "test", "--out", tmp_path / "out")
    run_classify(checkpoint, tmp_path, "new", "--out", tmp_path / "out")
    assert "predictions alone" in capsys.readouterr().out
    assert sorted(os.listdir(str(tmp_path / "out"))) == [".varan_fairseq", "utterances.tsv"]
    assert "label" not in rows(tmp_path / "out" / "utterances.tsv")[0]


def test_export_and_restore(run, tmp_path):
    folder, data, checkpoint, _ = run
    base = str(folder / "moved.pt")
    if "lora" not in str(folder):
        code, error = tool(export.main, "adapter", checkpoint, tmp_path / "a")
        assert code == 2 and "model.finetune=full" in error
        return
    assert export.main(["adapter", checkpoint, f"{tmp_path}/a"]) == 0
    assert export.main(["restore", f"{tmp_path}/a", base, f"{tmp_path}/restored.pt"]) == 0
    assert export.main(["merge", checkpoint, f"{tmp_path}/merged.pt"]) == 0
    saved, restored = torch.load(checkpoint), torch.load(f"{tmp_path}/restored.pt")
    assert saved["model"].keys() == restored["model"].keys()
    for name, value in saved["model"].items():
        assert torch.equal(value, restored["model"][name]), name
    tables = {}
    for name, arguments in {
        "trained": [checkpoint],
        "restored": [f"{tmp_path}/restored.pt"],
        "merged": [f"{tmp_path}/merged.pt"],
        "adapter": [f"{tmp_path}/a", "--base", base],
    }.items():
        run_classify(*arguments, data, "test", "--out", tmp_path / name)
        found = rows(tmp_path / name / "utterances.tsv")
        tables[name] = np.array([[float(row[f"p_{c}"]) for c in CLASSES] for row in found])
    assert (tables["restored"] == tables["trained"]).all()
    assert (tables["adapter"] == tables["trained"]).all()
    assert np.allclose(tables["merged"], tables["trained"], atol=1e-5)

    # to start from an adapter, the labels must be its own
    other = write_labelled_corpus(tmp_path / "other")
    start = [f"model.adapter={tmp_path}/a", f"model.w2v_path={base}", *LORA]
    log = train(tmp_path / "again", other, *start, "optimization.max_update=3")
    assert f"starting from adapter {tmp_path}/a" in log
    with open(os.path.join(other, "dict.emo.txt"), "w") as file:
        file.write("hap 2\nang 2\nsad 2\n")
    options = {"adapter": f"{tmp_path}/a", "lora_rank": 4, "lora_targets": "all"}
    with pytest.raises(ValueError, match="with other labels: here label 0 is 'hap', there 'ang'"):
        build.build_model(
            base, build.setup_classification(other), "varan_classification", **options
        )


# One run is enough for what follows


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(data, checkpoint) of a short run with cropping."""
    folder = tmp_path_factory.mktemp("small")
    data = write_labelled_corpus(folder / "data")
    base = save_pretrained(folder / "base.pt")
    recipe = os.path.join(REPO, "examples", "demo", "emotion.yaml")
    small = {"task": {"max_sample_size": 10000}, "model": {"posterior_heads": 4}}
    return data, build.train(recipe, data, folder / "out", base, **small)


def test_cropping_is_said(small, tmp_path, capsys):
    data, checkpoint = small
    run_classify(checkpoint, data, "test", "--out", tmp_path / "out")
    assert "utterances are cropped to their middle 10000 samples" in capsys.readouterr().out


def test_bad_input_of_the_tool(small, corpus, wav2vec2, tmp_path):
    data, checkpoint = small

    def fail(*arguments):
        code, error = tool(classify.main, *arguments)
        assert code == 2 and error.startswith("varan-classify: error: ") and error.count("\n") == 1
        return error

    assert "no checkpoint gone.pt" in fail("gone.pt", data, "test")
    assert "made by model 'wav2vec2', expected a checkpoint of varan_classification" in fail(
        wav2vec2, data, "test"
    )
    assert "is a folder: give a manifest's name" in fail(checkpoint, data)
    assert "no manifest" in fail(checkpoint, data, "nosplit")
    code, error = tool(classify.main, checkpoint, "gone.wav")
    assert code == 1 and "gone.wav cannot be read" in error
    assert "choose one of mixture" in fail(checkpoint, data, "test", "--combine", "poll")
    assert "predictions 1 .. 4" in fail(checkpoint, data, "test", "--layer", "9")
    copy = str(tmp_path / "copy")
    shutil.copytree(data, copy)
    with open(os.path.join(copy, "test.emo"), "a") as file:
        file.write("ang\n")
    assert "test.emo has 7 lines, its manifest names 6" in fail(checkpoint, copy, "test")
    with open(os.path.join(copy, "test.emo"), "w") as file:
        file.write("ang\nsad\njoy\nang\nsad\nsad\n")
    assert "test.emo, line 3: unknown label 'joy'" in fail(checkpoint, copy, "test")
    # what training would leave out, testing refuses
    with open(os.path.join(copy, "test.tsv")) as file:
        text = file.read().replace("test5.wav", "gone5.wav")
    with open(os.path.join(copy, "valid.tsv"), "w") as file:
        file.write(text)
    assert "1 of 6 audio files cannot be read" in fail(checkpoint, copy, "valid")
    from varan_fairseq.cli import infer

    code, error = tool(infer.main, f"common_eval.path={checkpoint}", f"task.data={data}")
    assert code == 2 and "'varan_classification', expected a checkpoint of varan_ctc" in error


def test_cross_validation(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folds.subprocess, "run", lambda call: preloaded.run(call, os.getcwd()))
    base = save_pretrained(tmp_path / "base.pt", "hubert")
    for number in (1, 2, 10):  # the last has the data of the first
        write_labelled_corpus(tmp_path / "folds" / f"fold{number}", seed=number % 3)
    arguments = [
        f"{tmp_path}/folds",
        "--config-name",
        "hubert_base_iemocap",
        f"--out={tmp_path}/cv",
    ]
    arguments += [f"--config-dir={REPO}/examples", f"common.user_dir={REPO}/varan_fairseq"]
    arguments += [f"model.w2v_path={base}", "optimization.max_update=3", *TINY]
    assert crossval.main(arguments) == 0
    printed = capsys.readouterr().out
    with open(f"{tmp_path}/cv/crossval.json") as file:
        found = json.load(file)
    names = [os.path.basename(row["fold"]) for row in found["folds"]]
    assert names == ["fold1", "fold2", "fold10"]
    # no fold knows of those trained before it in the same process
    states = [torch.load(os.path.join(os.path.dirname(row["checkpoint"]), "checkpoint_last.pt"))
              for row in found["folds"]]  # fmt: skip
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[2]["model"][name]), name
    accuracy = [row["accuracy"] for row in found["folds"]]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracy))
    assert found["standard_deviation"]["accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    assert f"{np.mean(accuracy):.2f} ± {np.std(accuracy, ddof=1):.2f}" in printed

    # repeated, it trains the folds that are not finished and touches no other's checkpoints
    folders = [os.path.dirname(row["checkpoint"]) for row in found["folds"]]
    shutil.rmtree(folders[1])
    kept = glob.glob(f"{tmp_path}/cv/**/*.pt", recursive=True)
    before = {path: os.stat(path).st_mtime_ns for path in kept}
    assert crossval.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("trained already, 3 updates") == 2
    assert before == {path: os.stat(path).st_mtime_ns for path in before}
    with open(f"{tmp_path}/cv/crossval.json") as file:
        assert json.load(file) == found

    code, error = tool(crossval.main, tmp_path, "--config-name", "x")
    assert code == 2 and "has 0 folders fold1, .." in error
    # another recipe, other overrides or other data are another cross-validation
    for changed in (
        [*arguments, "optimization.lr=[0.1]"],
        [*arguments[:1], "--config-name", "hubert_base_ravdess", *arguments[3:]],
        [f"{tmp_path}/cv/../others", *arguments[1:]],
    ):
        if "others" in changed[0]:
            shutil.copytree(str(tmp_path / "folds"), str(tmp_path / "others"))
        code, error = tool(crossval.main, *changed)
        assert code == 2 and "was trained with other settings" in error, error
    os.remove(f"{folders[0]}/settings.json")
    code, error = tool(crossval.main, *arguments)
    assert code == 2 and "no record of its settings: give another --out" in error
    code, error = tool(crossval.main, tmp_path / "folds", "--config-name", "x", "task.data=y")
    assert code == 2 and "belong to the folds" in error
    os.remove(f"{tmp_path}/folds/fold2/test.tsv")
    code, error = tool(crossval.main, tmp_path / "folds", "--config-name", "x")
    assert code == 2 and "fold2/test.tsv" in error
