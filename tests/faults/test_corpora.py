"""The campaign, scripts of corpora: nothing vanishes, nothing is on both sides, and what cannot
be done is said."""

import glob
import os
import re

import numpy as np
import pytest
import soundfile
from faulty import read, tone, write

from varan_fairseq.data.manifest import read_manifest


@pytest.fixture
def source(tmp_path):
    """Two classes of six speakers."""
    for label in "ab":
        for speaker in range(6):
            tone(tmp_path / "source" / label / f"{speaker}_x.wav")
    return tmp_path / "source"


def splits(out, labels="emo"):
    """Paths of each split."""
    return {
        split: [name for name, _ in read_manifest(os.path.join(str(out), f"{split}.tsv")).entries]
        for split in ("train", "valid", "test")
    }


BAD = {
    "no number of jobs": (["--jobs", "0"], "argument --jobs: '0', expected 1 or more"),
    "a text as jobs": (["--jobs", "many"], "argument --jobs: 'many', expected 1 or more"),
    "labels in the manifest": (["--labels", "tsv"], "argument --labels: 'tsv', expected letters"),
    "labels among speakers": (["--labels", "spk"], "argument --labels: 'spk', expected letters"),
    "labels elsewhere": (["--labels", "../emo"], "argument --labels: '../emo', expected letters"),
    "no limit": (["--max-unreadable", "nan"], "argument --max-unreadable: 'nan', expected a share"),
    "a large limit": (
        ["--max-unreadable", "5"],
        "argument --max-unreadable: '5', expected a share",
    ),
    "a share of nothing": (["--valid", "0"], "expected shares that leave some to train"),
    "shares of more": (["--valid", "0.6", "--test", "0.6"], "expected shares that leave some"),
    "shares that are none": (["--valid", "nan"], "argument --valid: 'nan', expected a share"),
    "no expression": (["--speaker", "("], r"--speaker '\(' is not a regular expression"),
    "no group": (["--speaker", "x"], "--speaker 'x' has no group"),
    "another name": (["--speaker", r"q(\d)"], "does not match"),
}


@pytest.mark.parametrize("name", BAD)
def test_arguments(script, source, tmp_path, name):
    arguments, expected = BAD[name]
    refusal, text = script("folder.py", source, tmp_path / "out", *arguments)
    assert refusal and re.search(expected, refusal + text), (refusal, text)
    assert not glob.glob(str(tmp_path / "out" / "*.tsv"))


@pytest.mark.parametrize("char", ["\t", "\n", "\r", "\udce9"])
def test_names_that_a_manifest_cannot_hold(script, source, tmp_path, char):
    tone(source / "a" / "7.wav")
    os.rename(str(source / "a" / "7.wav"), str(source / "a" / f"7_{char}.wav"))
    refusal, _ = script("folder.py", source, tmp_path / "out")
    assert "a manifest cannot name it" in refusal and repr(char)[1:-1] in refusal
    assert not os.path.exists(str(tmp_path / "out"))


def test_samples_that_are_no_numbers(script, source, tmp_path):
    tone(source / "a" / "7_x.wav", value=np.nan, subtype="FLOAT")
    refusal, text = script("folder.py", source, tmp_path / "out")
    assert "1 of 13 recordings cannot be read" in refusal
    assert "7_x.wav: 3000 samples are NaN or infinite" in text
    refusal, _ = script("folder.py", source, tmp_path / "out", "--max-unreadable", "0.2")
    assert refusal is None
    assert not any("7_x" in name for rows in splits(tmp_path / "out").values() for name in rows)


def test_a_pipe_in_the_corpus(script, source, tmp_path):
    os.mkfifo(str(source / "a" / "7_x.wav"))
    refusal, text = script("folder.py", source, tmp_path / "out")
    assert "7_x.wav: no regular file" in text and "1 of 13" in refusal


def test_out_inside_of_source(script, source):
    refusal, _ = script("folder.py", source, source / "out")
    assert "its copies would be taken for recordings" in refusal
    assert sorted(os.listdir(str(source))) == ["a", "b"]


def test_a_replaced_source_is_copied_again(script, source, tmp_path):
    out = tmp_path / "out"
    script("folder.py", source, out)
    copy = str(out / "wav" / "a" / "0_x.wav")
    before = os.stat(copy).st_mtime_ns
    _, text = script("folder.py", source, out)
    assert "12 of 12 recordings are there already" in text
    assert os.stat(copy).st_mtime_ns == before
    tone(source / "a" / "0_x.wav", samples=5000)
    os.utime(str(source / "a" / "0_x.wav"), ns=(before - 10**9,) * 2)  # older than the copy
    _, text = script("folder.py", source, out)
    assert "11 of 12 recordings" in text and soundfile.info(copy).frames == 5000


def test_linked_classes_are_there(script, source, tmp_path):
    os.rename(str(source / "b"), str(tmp_path / "elsewhere"))
    os.symlink(str(tmp_path / "elsewhere"), str(source / "b"))
    os.symlink(str(source), str(source / "a" / "circle"))
    refusal, _ = script("folder.py", source, tmp_path / "out")
    assert refusal is None and read(tmp_path / "out" / "dict.emo.txt") == "a 6\nb 6\n"


def test_formats_that_cannot_be_read(script, source, tmp_path):
    write(source / "a" / "8_x.m4a", "x")
    refusal, text = script("folder.py", source, tmp_path / "out")
    assert refusal is None and "class folder 'a': 1 files end in" in text
    os.makedirs(str(source / "c"))
    write(source / "c" / "8_x.m4a", "x")
    refusal, _ = script("folder.py", source, tmp_path / "out")
    assert "class folder 'c': 1 files end in .m4a" in refusal and "convert them" in refusal


def test_killed_while_splitting_anew(script, source, tmp_path, monkeypatch):
    """At any step of a second split, no speaker is in two of the manifests that are there."""
    from varan_fairseq.runtime import files

    out, options = tmp_path / "out", ["--speaker", r"(\d)_", "--valid", "0.2", "--test", "0.2"]
    script("folder.py", source, out, *options)
    first = splits(out)

    class Killed(BaseException):
        pass

    steps, stop = [], [0]

    def step(real):
        def counted(*arguments):
            steps.append(1)
            if len(steps) == stop[0]:
                raise Killed
            return real(*arguments)

        return counted

    monkeypatch.setattr(files, "_remove", step(files._remove))
    monkeypatch.setattr(os, "replace", step(os.replace))
    script("folder.py", source, out, *options, "--seed", "2")
    assert splits(out) != first
    last, seed = len(steps), 2
    for stop[0] in range(1, last + 1):
        seed += 1
        steps.clear()
        with pytest.raises(Killed):
            script("folder.py", source, out, *options, "--seed", str(seed))
        seen = {}
        for path in glob.glob(str(out / "*.tsv")):
            for name, _ in read_manifest(path).entries:
                speaker = os.path.basename(name)[0]
                assert seen.setdefault(speaker, path) == path
        steps.clear()
        stop[0] = 0
        script("folder.py", source, out, *options, "--seed", "1")
        assert splits(out) == first


@pytest.mark.parametrize("name", ["digits.py", "styles.py"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_corpora_of_nothing(script, tmp_path, name, split):
    refusal, text = script(name, tmp_path / "out", f"--{split}", "0")
    assert refusal == "2" and f"argument --{split}: '0', expected 1 or more" in text
    assert not os.path.exists(str(tmp_path / "out"))
