"""The campaign, varan-check: everything that is wrong with a corpus is said, with its number."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from conftest import write_corpus, write_labelled_corpus
from faulty import copy, edit, read, tool, write

from varan_fairseq.cli import check


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def data(whole, tmp_path):
    """A copy, audio included."""
    folder = copy(whole, tmp_path / "data")
    for split in ("train", "valid", "test"):
        edit(f"{folder}/{split}.tsv", lambda text: text.replace(f"{whole}/wav", f"{folder}/wav"))
    return folder


def wave(data, name, samples, rate=16000, **options):
    path = os.path.join(data, "wav", name)
    soundfile.write(path, samples, rate, **options)
    count, split = len(samples), name[: name.index(".") - 1]
    rows = read(f"{data}/{split}.tsv").split("\n")
    at = next(i for i, row in enumerate(rows) if row.startswith(name))
    rows[at] = f"{name}\t{count}"
    write(f"{data}/{split}.tsv", "\n".join(rows))


NOISE = np.random.default_rng(9).normal(0, 0.1, 9000)


def line(data, split, number, text):
    rows = read(f"{data}/{split}.ltr").split("\n")
    rows[number - 1] = text
    write(f"{data}/{split}.ltr", "\n".join(rows))


def clip(data):
    wave(data, "train0.wav", np.clip(20 * NOISE, -1, 1))


FAULTS = {
    "gone": (
        lambda data: os.remove(f"{data}/wav/train1.wav"),
        ("error", "train", "unreadable", 1, "no audio file"),
    ),
    "empty file": (
        lambda data: write(f"{data}/wav/train1.wav", ""),
        ("error", "train", "unreadable", 1, "train1.wav cannot be read"),
    ),
    "cut off": (
        lambda data: edit_bytes(f"{data}/wav/valid1.wav", lambda raw: raw[:5000]),
        ("error", "valid", "audio", 1, "samples, the manifest says"),
    ),
    "rate": (
        lambda data: wave(data, "train0.wav", NOISE, 8000),
        ("error", "train", "audio", 1, "8000 Hz, expected 16000 Hz"),
    ),
    "nan": (
        lambda data: wave(data, "train0.wav", np.full(9000, np.nan), subtype="FLOAT"),
        ("error", "train", "audio", 1, "9000 samples that are NaN"),
    ),
    "silence": (
        lambda data: wave(data, "test3.wav", np.zeros(9000)),
        ("warning", "test", "silence", 1, "test3.wav"),
    ),
    "clipping": (clip, ("warning", "train", "clipping", 1, "train0.wav")),
    "channels": (
        lambda data: wave(data, "train0.wav", np.stack([NOISE, NOISE], 1)),
        ("warning", "train", "channels", 1, "train0.wav"),
    ),
    "short": (
        lambda data: wave(data, "train0.wav", NOISE[:399]),
        ("error", "train", "short", 1, "train0.wav (line 2 of train.tsv)"),
    ),
    "labels for frames": (
        lambda data: line(data, "train", 1, "O " * 700),
        ("warning", "train", "infeasible", 1, "train0.wav"),
    ),
    "repeats want a blank between": (
        lambda data: wave(data, "train0.wav", NOISE[:1680]) or line(data, "train", 1, "O O N N"),
        ("warning", "train", "infeasible", 1, "train0.wav"),
    ),
    "no labels in a line": (
        lambda data: line(data, "valid", 2, ""),
        ("warning", "valid", "empty", 1, "valid1.wav (line 3 of valid.tsv)"),
    ),
    "unknown labels": (
        lambda data: edit(f"{data}/test.ltr", str.lower),
        ("error", "test", "unknown", None, "are not in the dictionary, the first in line 1"),
    ),
    "a line is missing": (
        lambda data: edit(f"{data}/test.ltr", lambda text: text[text.index("\n") + 1 :]),
        ("error", "test", "labels", 1, "test.ltr has 5 lines"),
    ),
    "no labels": (
        lambda data: os.remove(f"{data}/test.ltr"),
        ("error", "test", "labels", 1, "no label file"),
    ),
    "no UTF-8": (
        lambda data: write(f"{data}/test.ltr", b"\xe9\n" * 6),
        ("error", "test", "labels", 1, "line 1: byte 0xe9 is not UTF-8"),
    ),
    "manifest": (
        lambda data: edit(f"{data}/test.tsv", lambda text: text.replace("\t", " ")),
        ("error", "test", "manifest", 1, "line 2"),
    ),
    "dictionary": (
        lambda data: edit(f"{data}/dict.ltr.txt", lambda text: text + "O 3\n"),
        ("error", None, "dictionary", 1, "symbol 'O' is there already"),
    ),
    "a recording twice": (
        lambda data: duplicate(data, "train0.wav", "train4.wav"),
        ("warning", "train", "duplicates", 1, "train0.wav = train4.wav"),
    ),
    "test in train": (
        lambda data: duplicate(data, "train0.wav", "test4.wav"),
        ("error", "test", "overlap", 1, "train0.wav = test4.wav"),
    ),
    "no mark between words": (
        lambda data: edit(f"{data}/valid.ltr", lambda text: text.replace(" |", "")),
        ("warning", "valid", "boundary", 1, "a whole line is one word, and its WER the share of"),
    ),
    "an accent as a label": (
        lambda data: [
            edit(f"{data}/dict.ltr.txt", lambda text: text + "\u0307 1\n"),
            edit(f"{data}/train.ltr", lambda text: text.replace(" |", " \u0307 |", 1)),
        ],
        ("warning", "train", "accent", 1, "U+0307 (1 lines)"),
    ),
    "speakers that differ by a blank": (
        lambda data: [
            write(f"{data}/{s}.spk", ("a b\n" if s == "train" else "a  b \n") * 6)
            for s in ("train", "test")
        ],
        ("warning", None, "speakers", 1, "speaker a b is in train and in test"),
    ),
    "a speaker in two splits": (
        lambda data: [write(f"{data}/{s}.spk", "a\n" * 6) for s in ("train", "test")],
        ("warning", None, "speakers", 1, "speaker a is in train and in test"),
    ),
}


def edit_bytes(path, change):
    with open(path, "rb") as file:
        raw = file.read()
    write(path, change(raw))


def duplicate(data, source, target):
    samples, _ = soundfile.read(os.path.join(data, "wav", source), dtype="int16")
    wave(data, target, samples)
    shutil.copy(os.path.join(data, "wav", source), os.path.join(data, "wav", target))


def findings(data, tmp_path, *options):
    out = str(tmp_path / "found.json")
    code, text, error = tool(check.main, data, "--json", out, "--jobs", 1, *options)
    return code, text, json.loads(read(out))["findings"] if os.path.isfile(out) else error


def test_a_sound_corpus(data, tmp_path):
    code, text, found = findings(data, tmp_path)
    assert code == 0 and found == [] and "0 errors, 0 warnings" in text
    assert text.count("6 files") == 3 and "train: 6 files, 0.00 hours" in text
    histogram = json.loads(read(tmp_path / "found.json"))["splits"][0]["lengths"]
    assert sum(count for _, _, count in histogram) == 6


@pytest.mark.parametrize("name", FAULTS)
def test_faults(data, tmp_path, name):
    change, (level, split, kind, count, expected) = FAULTS[name]
    change(data)
    code, text, found = findings(data, tmp_path)
    assert code == (1 if level == "error" else 0)
    each = [finding for finding in found if finding["kind"] == kind]
    assert len(each) == 1 and len(found) == 1, found
    assert each[0]["level"] == level and each[0]["split"] == split
    assert count is None or each[0]["count"] == count
    assert expected in " ".join([each[0]["text"], *each[0]["examples"]]), each
    assert f"{level}: " in text and each[0]["text"] in text


def test_labels_that_are_rare(data, tmp_path):
    """Of a corpus large enough to tell: the letter that four lines of sixty have."""
    for name in ("train.tsv", "train.ltr"):
        rows = read(f"{data}/{name}").rstrip("\n").split("\n")
        head, rows = (rows[:1], rows[1:]) if name.endswith("tsv") else ([], rows)
        if not head:
            rows = [row.replace("X", "N") for row in rows]
        write(f"{data}/{name}", "\n".join([*head, *(rows * 10)]) + "\n")
    rows = read(f"{data}/train.ltr").split("\n")
    write(f"{data}/train.ltr", "\n".join([*(row + " X |" for row in rows[:4]), *rows[4:]]))
    found = findings(data, tmp_path, "--no-audio")[2]
    assert [each["kind"] for each in found] == ["rare"], found
    assert found[0]["examples"] == ["'X' (4 lines)"]


def test_an_encoder_of_ones_own(data, tmp_path, wav2vec2):
    """160 samples a frame would do where 320 do not."""
    line(data, "train", 1, "O N " * 20)
    wave(data, "train0.wav", NOISE)
    assert [each["kind"] for each in findings(data, tmp_path)[2]] == ["infeasible"]
    assert [f["kind"] for f in findings(data, tmp_path, "--encoder", wav2vec2)[2]] == ["infeasible"]
    from conftest import save_pretrained

    finer = "[(16,20,5)] + [(16,3,2)] * 3 + [(16,2,2)] * 2"
    base = save_pretrained(tmp_path / "finer.pt", conv_feature_layers=finer)
    assert findings(data, tmp_path, "--encoder", base)[2] == []


def test_a_classifiers_corpus(tmp_path):
    data = write_labelled_corpus(tmp_path / "labelled")
    assert findings(data, tmp_path)[0] == 0
    edit(f"{data}/test.emo", lambda text: text.replace("hap", "joy"))
    code, _, found = findings(data, tmp_path)
    assert code == 1 and "'joy'" in found[0]["text"]


def test_without_audio(data, tmp_path):
    shutil.rmtree(f"{data}/wav")
    assert findings(data, tmp_path, "--no-audio")[0] == 0
    code, _, found = findings(data, tmp_path)
    assert code == 1 and [each["count"] for each in found] == [6, 6, 6]


def test_processes_find_the_same(data, tmp_path):
    for change in ("gone", "silence", "test in train"):
        FAULTS[change][0](data)
    assert findings(data, tmp_path, "--jobs", 3)[2] == findings(data, tmp_path)[2] != []


ARGUMENTS = {
    "no folder": (["{out}/gone"], "gone is not a folder"),
    "no manifest": (["{out}"], "has no manifest (.tsv)"),
    "no labels": (["{empty}"], "--labels is not given, and in .*there is no dict"),
    "json": (["{data}", "--json", "{out}/gone/x.json"], "no folder"),
    "jobs": (["{data}", "--jobs", "0"], "expected 1 or more"),
    "encoder": (["{data}", "--encoder", "{data}/train.tsv"], "train.tsv"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(data, tmp_path, name):
    import re

    arguments, expected = ARGUMENTS[name]
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    out.mkdir()
    write(empty / "train.tsv", "x\n")
    filled = [each.format(data=data, out=out, empty=empty) for each in arguments]
    code, text, error = tool(check.main, *filled)
    assert code == 2 and re.search(re.escape(expected).replace(r"\.\*", ".*"), error), error
    assert error.count("\n") == 1 and not text
