"""The campaign, tools: a wrong argument is one line, before any work; a result says what it
depends on."""

import csv
import json
import os
import re

import numpy as np
import pytest
import soundfile
import torch
from build import batch, build_criterion, setup_classification
from conftest import command, shell, write_labelled_corpus
from fairseq.data import Dictionary
from faulty import (
    EMOTION,
    Run,
    copy,
    decode,
    edit,
    read,
    tool,
    write,
)

import varan_fairseq
from varan_fairseq.cli import classify, crossval, export, infer, inspect_checkpoint, layers
from varan_fairseq.decoding.search import without_extra_boundaries
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.runtime.files import cell, printable

LM = ["decoding.type=kenlm", "decoding.lmpath={file}"]
INFER = {
    "nothing": ([], "common_eval.path is not set"),
    "no data": (["common_eval.path={model}"], "task.data is not set"),
    "a number as data": (["common_eval.path={model}", "task.data=5"], "no manifest 5/test.tsv"),
    "no labels": (["{both}", "task.labels=null"], "task.labels=None: expected the ending"),
    "no split": (["{both}", "dataset.gen_subset=nosplit"], "no manifest .*nosplit.tsv"),
    "post_process": (
        ["{both}", "common_eval.post_process=foo"],
        "common_eval.post_process=foo: expected letter, sentencepiece,",
    ),
    "fp16": (["{both}", "common.fp16=true"], "common.fp16=true needs a GPU"),
    "layer and rule": (["{both}", "--layer", "1", "--combine", "mixture"], "give one of the two"),
    "layer 0": (["{both}", "--layer", "0"], "--layer 0: layers are 1"),
    "layer 9": (["{both}", "--layer", "9"], "model.decode_layer=9: aggregation varan over 3"),
    "rule": (["{both}", "--combine", "poll"], "'poll': choose one of"),
    "overrides": (["{both}", "common_eval.model_overrides=oops"], "expected a Python dictionary"),
    "unknown override": (
        ["{both}", "common_eval.model_overrides={{'combin': 'mixture'}}"],
        "'combin' is not an option of the checkpoint's",
    ),
    "no override": (["{both}", "decode"], "'decode' is not an override"),
    "unknown key": (["{both}", "decoding.foo=1"], "bad override"),
    "results in a file": (
        ["{both}", "decoding.results_path={file}"],
        "is a file, expected a folder",
    ),
    "no language model": (["{both}", LM[0]], "decoding.lmpath is not set"),
    "language model gone": (["{both}", LM[0], "decoding.lmpath=gone"], "lmpath=gone: no such file"),
    "no lexicon": (["{both}", *LM], "decoding.lexicon is not set: .*decoding.unitlm=true"),
    "lexicon gone": (["{both}", *LM, "decoding.lexicon=gone"], "lexicon=gone: no such file"),
    "a language model that is none": (
        ["{both}", *LM, "decoding.unitlm=true"],
        "decoding.lmpath=.*file lexicon=None: ",
    ),
    "a lexicon that is none": (
        ["{both}", *LM, "decoding.lexicon={file}"],
        "decoding.lexicon=.*file, line 1: 'x', expected a word, a tab and its labels",
    ),
    "a model option": (["{both}", "model.dropout=1"], "model.dropout is not for decoding"),
    "no checkpoint": (["task.data={data}", "common_eval.path=gone.pt"], "no checkpoint gone.pt"),
    "a pre-trained one": (["task.data={data}", "common_eval.path={base}"], "model 'wav2vec2'"),
}


def fill(arguments, run, tmp_path):
    path = str(tmp_path / "file")
    write(path, "x")
    names = dict(model=run.checkpoint, data=run.data, base=run.base, file=path, out=str(tmp_path))
    for argument in arguments:
        if argument == "{both}":
            yield f"common_eval.path={run.checkpoint}"
            yield f"task.data={run.data}"
        else:
            yield argument.format(**names)


def refused(main, arguments, expected, tmp_path):
    code, out, error = tool(main, *arguments)
    assert code == 2 and re.search(expected, error), error
    assert error.count("\n") == 1 and "Traceback" not in error and not out
    assert os.listdir(str(tmp_path)) in ([], ["file"])


@pytest.mark.parametrize("name", INFER)
def test_infer(ctc, tmp_path, monkeypatch, name):
    arguments, expected = INFER[name]
    monkeypatch.chdir(tmp_path)
    refused(infer.main, list(fill(arguments, ctc, tmp_path)), expected, tmp_path)


OTHERS = {
    "layers: no data": (layers, ["{model}", "gone", "test"], "no manifest gone/test.tsv"),
    "layers: no folder": (
        layers,
        ["{model}", "{data}", "test", "--out", "{out}/gone/x"],
        "no folder .*gone to write",
    ),
    "layers: by class": (layers, ["{model}", "{data}", "test", "--by-class"], "is for classifiers"),
    "classify: a recognizer": (classify, ["{model}", "{data}", "test"], "model 'varan_ctc'"),
    "classify: a folder alone": (classify, ["{model}", "{data}"], "give a manifest's name after"),
    "classify: into a file": (
        classify,
        ["{model}", "{data}", "test", "--out", "{file}"],
        "is a file, expected a folder",
    ),
    "classify: both": (
        classify,
        ["{model}", "{data}", "test", "--layer", "1", "--combine", "mixture"],
        "give one of the two",
    ),
    "export: a full model": (export, ["merge", "{base}", "{out}/x"], "made by model 'wav2vec2'"),
    "export: no adapter": (export, ["restore", "{out}", "{base}", "x"], "no adapter"),
    "inspect: nothing": (inspect_checkpoint, ["gone"], "no checkpoint gone"),
    "inspect: a text": (inspect_checkpoint, ["{file}"], "is not a checkpoint that can be read"),
    "crossval: no folds": (crossval, ["{out}", "--config-name", "x"], "has 0 folders fold1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others(ctc, tmp_path, monkeypatch, name):
    module, arguments, expected = OTHERS[name]
    monkeypatch.chdir(tmp_path)
    refused(module.main, list(fill(arguments, ctc, tmp_path)), expected, tmp_path)


# Audio of the classifier's and the Python face


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda path: None, "a.wav cannot be read: it does not exist"),
        (os.mkfifo, "a.wav cannot be read: it is not a regular file"),
        (lambda path: write(path, ""), "a.wav cannot be read"),
        (lambda path: soundfile.write(path, np.zeros(399), 16000), "399 samples are too short"),
        (lambda path: soundfile.write(path, np.zeros(0), 16000), "0 samples are too short"),
        (
            lambda path: soundfile.write(path, np.full(900, np.nan), 16000, subtype="FLOAT"),
            "NaN or infinite samples",
        ),
    ],
)
def test_audio_files(emotion, tmp_path, make, expected):
    path = str(tmp_path / "a.wav")
    """A file that cannot be classified is named, and the others are."""
    sound = str(tmp_path / "b.wav")
    soundfile.write(sound, np.full(9000, 0.1), 16000)
    make(path)
    code, out, error = tool(classify.main, emotion.checkpoint, path, sound)
    assert code == 1 and re.search(expected, error) and path in error, error
    assert [line.split("\t")[0] for line in out.splitlines()] == ["id", sound]


def test_arrays(ctc):
    model = varan_fairseq.load(ctc.checkpoint)
    for array, expected in (
        (np.zeros(399, dtype=np.float32), "399 samples are too short, the encoder needs 400"),
        (np.zeros(9000, dtype=np.uint8), r"expected float samples .*, int16 or int32, got uint8"),
        (np.zeros((2, 9000), dtype=np.float32), r"got shape \(2, 9000\)"),
        (np.full(9000, np.inf, dtype=np.float32), "NaN or infinite samples"),
    ):
        with pytest.raises(ValueError, match=expected):
            model.transcribe(array)


# What results say


def decoded(run, *options):
    """(what was printed, asr.json) of a decoding."""
    code, out, error = decode(run, *options)
    assert code == 0, error
    folder = out.strip().rpartition(" -> ")[2]
    scores = json.loads(read(os.path.join(folder, "asr.json")))
    assert scores.pop("time")["audio_seconds"] > 0
    return out, scores


def test_settings_have_folders_of_their_own_and_are_written(ctc):
    seen = set()
    for options, reading in (
        ([], "as trained"),
        (["--layer", "2"], {"decode_layer": 2}),
        (["--combine", "mixture"], {"combine": "mixture", "decode_layer": 0}),
        (["common_eval.model_overrides={'combine': 'mixture'}"], "as trained"),
    ):
        out, scores = decoded(ctc, *options)
        assert scores["reading"] == reading and scores["post_process"] == "letter"
        seen.add(out.strip().rpartition(" -> ")[2])
    assert scores["model_overrides"] == {"combine": "mixture"} and len(seen) == 4


def test_a_typed_override_is_followed(ctc, tmp_path):
    def hypotheses(*options):
        _, scores = decoded(ctc, *options, f"decoding.results_path={tmp_path}")
        return scores["uer"], read(tmp_path / "hypotheses.tsv")

    typed = "common_eval.model_overrides={'decode_layer': 1}"
    assert hypotheses("--layer", "1") == hypotheses(typed)


def test_nothing_of_other_libraries_is_printed(ctc, emotion, tmp_path):
    text = shell(
        command("varan-infer"),
        f"common_eval.path={ctc.checkpoint}",
        f"task.data={ctc.data}",
        f"decoding.results_path={tmp_path}/out",
    )
    lines = [line for line in text.splitlines() if "Warning" not in line]
    noise = [line for line in lines if re.search("INFO|DEBUG", line) and "varan_" not in line]
    assert not noise and lines[-1].startswith("WER ")


def test_a_batch_is_at_least_one_file(ctc, emotion, tmp_path):
    out, _ = decoded(ctc, "dataset.max_tokens=10", f"decoding.results_path={tmp_path}/a")
    assert "6 utterances" in out
    code, out, error = tool(
        layers.main, ctc.checkpoint, ctc.data, "test", "--max-tokens", "10", "--out", tmp_path / "b"
    )
    assert code == 0 and "bits" in out, error
    code, out, error = tool(
        classify.main, emotion.checkpoint, emotion.data, "test", "--max-tokens", "10"
    )
    assert code == 0 and "6 utterances" in out, error


def test_word_boundaries_that_beam_search_adds():
    labels = Dictionary()
    for symbol in "|AB":
        labels.add_symbol(symbol)
    bar, a, b = (labels.index(symbol) for symbol in "|AB")
    found = without_extra_boundaries([bar, bar, a, b, bar, bar, a, bar], labels)
    assert found == [a, b, bar, a, bar]
    assert without_extra_boundaries([a, a], labels) == [a, a]


# Labels and the dictionary of a decoding


@pytest.fixture
def data(ctc, tmp_path):
    return copy(ctc.data, tmp_path / "data")


def test_another_order_does_not_change_the_result(ctc, data, tmp_path, caplog):
    options = [f"decoding.results_path={tmp_path}/out"]
    expected = decoded(ctc, *options)[1]
    path = os.path.join(data, "dict.ltr.txt")
    edit(path, lambda text: "\n".join(text.split("\n")[-2::-1]) + "\n")
    found = decoded(ctc, *options, f"task.data={data}")[1]
    assert found == expected and "is not the dictionary of the training" in caplog.text
    os.remove(os.path.join(data, "dict.ltr.txt"))
    assert decoded(ctc, *options, f"task.data={data}")[1] == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("o n e |\n" * 6, "test.ltr: 18 of 24 labels .75%. are not in the dictionary"),
        ("ONE\n" * 6, "test.ltr: 6 of 6 labels"),
        ("\n" * 6, "test.ltr has no labels in any line"),
        ("|\n" * 6, "test.ltr: the transcripts have no words"),
        ("O N E |\n" * 5, "test.ltr has 5 lines"),
    ],
)
def test_labels_that_cannot_be_scored(ctc, data, tmp_path, text, expected):
    write(os.path.join(data, "test.ltr"), text)
    code, out, error = decode(ctc, f"task.data={data}", f"decoding.results_path={tmp_path}/out")
    assert code == 2 and re.search(expected, error), error
    assert sorted(os.listdir(str(tmp_path))) == ["data"]


def test_audio_that_is_too_short_is_not_scored(ctc, data, tmp_path):
    soundfile.write(os.path.join(data, "wav", "test2.wav"), np.zeros(399), 16000)
    rows = read(os.path.join(data, "test.tsv")).split("\n")
    rows[0], rows[3] = os.path.join(data, "wav"), "test2.wav\t399"
    write(os.path.join(data, "test.tsv"), "\n".join(rows))
    for main, arguments in (
        (infer.main, [f"common_eval.path={ctc.checkpoint}", f"task.data={data}"]),
        (layers.main, [ctc.checkpoint, data, "test"]),
    ):
        code, _, error = tool(main, *arguments)
        assert code == 2 and "line 4: test2.wav has 399 samples, the encoder needs 400" in error


# Tables


def test_a_class_with_a_comma(tmp_path_factory, tmp_path):
    folder = tmp_path_factory.mktemp("comma")

    def write_corpus(path):
        data = write_labelled_corpus(path)
        for name in ("dict.emo.txt", "train.emo", "valid.emo", "test.emo"):
            edit(os.path.join(data, name), lambda text: text.replace("hap", 'hap,py"'))
        return data

    run = Run(folder, EMOTION, write_corpus)
    out = str(tmp_path / "out")
    code, _, error = tool(classify.main, run.checkpoint, run.data, "test", "--out", out)
    assert code == 0, error
    with open(os.path.join(out, "confusion.csv")) as file:
        table = list(csv.reader(file))
    assert table[0] == ["label", "ang", 'hap,py"', "sad"] and table[2][0] == 'hap,py"'
    assert all(len(row) == 4 for row in table)


def test_cells():
    assert cell("=1+1") == " =1+1" and cell("a=b") == "a=b"
    for text in ("a\tb", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="holds a tab or a line end"):
            cell(text)
    assert printable("a\x1b[31m\nb\x07\udce9") == "a\\x1b[31m\nb\\x07\\udce9"
    assert printable("क्\u200dष é") == "क्\u200dष é"


# The classifier's loss where its training is not known


def test_balanced_weights_outside_of_training(emotion, caplog):
    """As in fairseq-validate, which builds the criterion from the checkpoint alone."""
    task = setup_classification(emotion.data)
    criterion = build_criterion(task, "varan_classification", class_weights="balanced")
    assert "the training labels are not known outside of training" in caplog.text
    model, _, _ = load_model(emotion.checkpoint)
    loss, size, _ = criterion(model, batch(task, "valid"))
    assert torch.isfinite(loss) and size == 6
