"""The campaign, messages: whatever is given, one line says what it is and what is expected. What can
continue does so."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPO, command
from faulty import copy, decode, edit, read, tone, tool, write

import varan_fairseq
from varan_fairseq.cli import (
    classify,
    export,
    infer,
    inspect_checkpoint,
    layers,
    report,
    transcribe,
)
from varan_fairseq.data.audio import read_audio
from varan_fairseq.report.log import read_log

# Overrides of varan-infer

FOLDERS = ["no", "@x", "{x}", "[v1] set", "it's", "1e3", "null hypothesis", "a: b", "#1", "~", "-"]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_yaml_reads_otherwise(ctc, tmp_path, monkeypatch, name):
    copy(ctc.data, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code, _, error = decode(ctc, f"task.data={name}", f"decoding.results_path=to {name}")
    assert code == 0, error
    assert os.path.isfile(str(tmp_path / f"to {name}" / "asr.json"))


def test_quotes_around_a_path_are_not_of_it(ctc, tmp_path):
    code, _, error = decode(ctc, f'decoding.results_path="{tmp_path}/out"')
    assert code == 0 and os.path.isfile(str(tmp_path / "out" / "asr.json")), error


OVERRIDES = {
    "no YAML": ("decoding.nbest=@x", "bad override 'decoding.nbest=@x'"),
    "half a list": ("decoding.nbest=[v1] set", "bad override 'decoding.nbest=[v1] set'"),
    "a dictionary": ("decoding.nbest={x}", "bad override"),
    "a text": ("decoding.nbest=many", "bad override"),
    "another task's shape": (
        "common_eval.model_overrides={'aggregation': 'hconv'}",
        "does not fit its options",
    ),
    "another width": (
        "common_eval.model_overrides={'head_dim': 7}",
        "does not fit its options",
    ),
    "no dictionary": ("common_eval.model_overrides=7", "expected a Python dictionary"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides_that_are_none(ctc, name):
    override, expected = OVERRIDES[name]
    code, _, error = decode(ctc, override)
    assert code == 2 and expected in error and error.count("\n") == 1, error


# What people take for a checkpoint

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def safetensors(path):
    from safetensors.torch import save_file

    save_file({"wav2vec2.encoder.layers.0.weight": torch.zeros(2)}, path)


NO_CHECKPOINTS = {
    "a pointer of git-lfs": (
        lambda path: write(path, LFS),
        "it is a pointer of git-lfs, not the file it stands for: git lfs pull",
    ),
    "a page": (
        lambda path: write(path, "<!DOCTYPE html><title>404</title>"),
        "it is a page of HTML, as a download that failed leaves",
    ),
    "safetensors": (safetensors, "it is a file of safetensors: give its folder, with transformers"),
    "weights alone": (
        lambda path: torch.save({"wav2vec2.encoder.weight": torch.zeros(2)}, path),
        "it holds weights alone (wav2vec2.encoder.weight, ..), as transformers' pytorch_model.bin",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_files_that_are_no_checkpoints(ctc, tmp_path, name):
    make, expected = NO_CHECKPOINTS[name]
    path = str(tmp_path / "model.pt")
    make(path)
    for main, *arguments in (
        (infer.main, f"common_eval.path={path}", f"task.data={ctc.data}"),
        (inspect_checkpoint.main, path),
        (transcribe.main, path, f"{ctc.data}/wav/test0.wav"),
    ):
        code, _, error = tool(main, *arguments)
        assert code == 2 and expected in error and path in error, error
    with pytest.raises(ValueError, match="model.pt") as raised:
        ctc.train(out=str(tmp_path / "o"), model={"w2v_path": path})
    assert expected in str(raised.value)


# Continuing


def test_beginning_from_a_model_of_other_labels(ctc, tmp_path):
    """The remedy works as it is printed."""
    data = copy(ctc.data, tmp_path / "data")
    edit(os.path.join(data, "dict.ltr.txt"), lambda text: text + "Ñ 1\n")
    given = {"checkpoint": {"finetune_from_model": ctc.checkpoint}}
    with pytest.raises(ValueError) as raised:
        ctc.train(data, str(tmp_path / "a"), **given)
    remedy = f"model.w2v_path=MERGED.pt of varan-export merge {ctc.checkpoint} MERGED.pt, without"
    assert remedy in str(raised.value)
    merged = str(tmp_path / "MERGED.pt")
    assert tool(export.main, "merge", ctc.checkpoint, merged)[0] == 0
    given = {"checkpoint": {"finetune_from_model": merged}, "model": {"lora_rank": 0}}
    with pytest.raises(ValueError) as raised:
        ctc.train(data, str(tmp_path / "b"), **given)
    assert f"begin from its encoder alone, by model.w2v_path={merged} without" in str(raised.value)
    assert ctc.train(data, str(tmp_path / "c"), model={"w2v_path": merged})


def test_other_batches_on_resuming(ctc, tmp_path, caplog):
    out = str(tmp_path / "o")
    short = {"dataset": {"batch_size": 1}, "checkpoint": {"save_interval_updates": 1}}
    ctc.train(out=out, updates=3, **short)  # of six, so in the middle of the epoch
    ctc.train(out=out, updates=4, **short)
    assert "batches are others" not in caplog.text
    ctc.train(out=out, updates=5, dataset={"batch_size": 1, "max_tokens": 39999})
    assert "dataset.max_tokens=39999 here, 40000 there" in caplog.text
    assert "set checkpoint.reset_dataloader=true" in caplog.text


# Audio for Python

TONE = (0.3 * np.sin(np.arange(9000) / 9)).astype(np.float32)


def as_bytes(wave=TONE, rate=16000, kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind)
    return file.getvalue()


AUDIO = {
    "samples": lambda: TONE,
    "double precision": lambda: TONE.astype(np.float64),
    "a tensor": lambda: torch.from_numpy(TONE),
    "half precision": lambda: torch.from_numpy(TONE).half(),
    "bfloat16": lambda: torch.from_numpy(TONE).bfloat16(),
    "16 bits": lambda: (TONE * 2**15).astype(np.int16),
    "32 bits": lambda: (TONE.astype(np.float64) * 2**31).astype(np.int32),
    "a pair": lambda: (TONE, 16000),
    "of datasets": lambda: {"array": TONE, "sampling_rate": 16000, "path": "a.wav"},
    "of datasets, undecoded": lambda: {"bytes": as_bytes(), "path": "a.wav"},
    "bytes": as_bytes,
    "a file in memory": lambda: io.BytesIO(as_bytes()),
    "of another kind": lambda: io.BytesIO(as_bytes(kind="FLAC")),
}


@pytest.mark.parametrize("name", AUDIO)
def test_audio_in_any_shape(name):
    tolerance = 4e-3 if "bf" in name else 1e-3
    np.testing.assert_allclose(read_audio(AUDIO[name](), 16000), TONE, atol=tolerance)


@pytest.mark.parametrize(
    "source", [(TONE, 8000), {"array": TONE, "sampling_rate": 8000}, as_bytes(rate=8000)]
)
def test_audio_of_its_own_rate(source):
    assert len(read_audio(source, 16000)) == 18000


def test_an_open_file_stays_its_owners(tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, TONE, 16000)
    with open(path, "rb") as file:
        first = read_audio(file, 16000)
        assert not file.closed
        file.seek(0)
        assert np.array_equal(read_audio(file, 16000), first)


NO_AUDIO = {
    "text": (lambda: io.StringIO("x"), "it is open for reading text, expected bytes"),
    "other bytes": (lambda: b"no audio", "the bytes cannot be read"),
    "an empty dictionary": (dict, "expected array"),
    "a dictionary of something": (lambda: {"text": "x"}, "expected array"),
    "16 bits in 32": (
        lambda: (TONE * 2**15).astype(np.int32),
        "int32 samples of at most .*, as those of 16 bits are: give them as int16",
    ),
    "a rate of none": (lambda: (TONE, 0), "a sample rate of 0"),
    "a rate of a clock": (lambda: (TONE, 1), "a sample rate of 1 Hz, expected 1000 Hz or more"),
    "a header of 1 Hz": (lambda: as_bytes(rate=1), "a sample rate of 1 Hz, expected 1000 Hz"),
    "two channels": (lambda: np.zeros((2, 9000)), "expected mono samples .*2, 9000"),
    "complex numbers": (lambda: TONE.astype(complex), "got complex128"),
}


@pytest.mark.parametrize("name", NO_AUDIO)
def test_audio_that_is_none(name):
    make, expected = NO_AUDIO[name]
    with pytest.raises(ValueError, match=expected):
        read_audio(make(), 16000)


def test_lists_and_pairs(ctc):
    model = varan_fairseq.load(ctc.checkpoint)
    one = model.transcribe(TONE)
    assert model.transcribe((TONE, 16000)) == one and isinstance(one, str)
    assert model.transcribe([TONE, (TONE, 16000), as_bytes()]) == [one] * 3
    assert model.transcribe((TONE, TONE)) == [one] * 2


def test_a_classifier_hears_of_a_file_what_it_hears_of_a_split(emotion, tmp_path):
    """The middle of a long recording, as its validation does."""
    wave = np.random.default_rng(3).normal(0, 0.1, 30000)
    data = tmp_path / "data"
    tone(data / "wav" / "a.wav")
    soundfile.write(str(data / "wav" / "a.wav"), wave, 16000)
    write(data / "test.tsv", f"{data}/wav\na.wav\t30000\n")
    out = tmp_path / "out"
    code, text, error = tool(classify.main, emotion.checkpoint, data, "test", "--out", out)
    assert code == 0 and "are cropped to their middle 24000 samples" in text, error
    of_split = read(out / "utterances.tsv").splitlines()[1].split("\t")[2:]
    _, text, _ = tool(classify.main, emotion.checkpoint, data / "wav" / "a.wav")
    of_file = text.splitlines()[1].split("\t")[2:]
    np.testing.assert_allclose(np.array(of_file, float), np.array(of_split, float), atol=2e-6)


# Tools that go over files


def spoil_one(monkeypatch, number):
    """The search fails for the one with this number."""
    from varan_fairseq.inference.recognizer import Recognizer

    real, seen = Recognizer._utterance, []

    def fail(self, segment):
        seen.append(1)
        if len(seen) == number:
            raise IndexError("somewhere deep")
        return real(self, segment)

    monkeypatch.setattr(Recognizer, "_utterance", fail)


def test_an_error_of_one_recording_ends_that_one(ctc, tmp_path, monkeypatch):
    spoil_one(monkeypatch, 2)
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        shutil.copy(os.path.join(ctc.data, "wav", f"test{index}.wav"), str(folder))
    out = tmp_path / "out"
    code, _, error = tool(transcribe.main, ctc.checkpoint, folder, "--out", out)
    assert code == 1 and "test1.wav: IndexError: somewhere deep" in error
    assert "3 recordings ->" in error and len(list(out.glob("*.txt"))) == 3


@pytest.mark.parametrize("kind", ["text", "jsonl", "ctm", "srt", "vtt"])
def test_names_that_are_not_utf8(ctc, tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("caf\udce9.wav", "test.wav")):
        shutil.copy(os.path.join(ctc.data, "wav", f"test{index}.wav"), str(folder / name))
    out = tmp_path / "out"
    arguments = [ctc.checkpoint, folder, "--out", out, "--format", kind]
    for _ in range(2):
        code, _, error = tool(transcribe.main, *arguments)
        assert code == 0, error
    assert "2 of 2 are there already" in error


@pytest.fixture
def cut_off(ctc, emotion, tmp_path):
    """Corpora whose first file of each split is a FLAC that was cut off: (of ctc, of emotion)."""
    folders = []
    for run in (ctc, emotion):
        data = copy(run.data, tmp_path / os.path.basename(run.out) / str(len(folders)))
        rows = read(os.path.join(data, "test.tsv")).split("\n")
        rows[0], samples = f"{data}/wav", rows[1].split("\t")[1]
        wave = np.random.default_rng(1).normal(0, 0.1, int(samples))
        path = os.path.join(data, "wav", "cut.flac")
        soundfile.write(path, wave, 16000)
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
        rows[1] = f"cut.flac\t{samples}"
        write(os.path.join(data, "test.tsv"), "\n".join(rows))
        folders.append(data)
    return folders


@pytest.mark.parametrize(
    "kind", ["infer", "classify", "layers", "curve", "report", "report of emotion"]
)
def test_audio_that_was_cut_off(ctc, emotion, cut_off, tmp_path, kind):
    of_ctc, of_emotion = cut_off
    main, *arguments = {
        "infer": (infer.main, f"common_eval.path={ctc.checkpoint}", f"task.data={of_ctc}"),
        "classify": (classify.main, emotion.checkpoint, of_emotion, "test"),
        "layers": (layers.main, ctc.checkpoint, of_ctc, "test"),
        "curve": (layers.main, ctc.checkpoint, of_ctc, "test", "--curve"),
        "report": (report.main, ctc.checkpoint, of_ctc, "test"),
        "report of emotion": (report.main, emotion.checkpoint, of_emotion, "test"),
    }[kind]
    code, _, error = tool(main, *arguments)
    assert code == 2 and "cut.flac cannot be read" in error and error.count("\n") == 1, error


DEVICES = {
    "meta": (["--device", "meta"], "device=meta: it computes nothing, expected cpu or cuda"),
    "unknown": (["--device", "gpu"], "device=gpu"),
    "an endless window": (["--window", "inf"], "a window of inf s: expected seconds"),
    "no window": (["--window", "nan"], "a window of nan s: expected seconds"),
}


@pytest.mark.parametrize("name", DEVICES)
def test_devices_and_windows(ctc, name):
    arguments, expected = DEVICES[name]
    code, _, error = tool(transcribe.main, ctc.checkpoint, f"{ctc.data}/wav", *arguments)
    assert code == 2 and expected in error and error.count("\n") == 1, error


def test_a_closed_standard_input(ctc, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, _, error = tool(transcribe.main, ctc.checkpoint, "-")
    assert (
        code == 1 and "the standard input cannot be read: nothing is there: it is closed" in error
    )


def test_nobody_reads_on():
    """As of | head -1."""
    line = f"{command('varan-check')} --help | head -1; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", line], cwd=REPO, capture_output=True, text=True)
    assert process.returncode in (0, 141) and not process.stderr, process.stderr
    script = "import sys; from varan_fairseq.runtime.command import run\n"
    script += "sys.exit(run('x', lambda argv: print('y' * 10**6), None))"
    line = f'{sys.executable} -c "{script}" | head -c 1; exit ${{PIPESTATUS[0]}}'
    process = subprocess.run(["bash", "-c", line], cwd=REPO, capture_output=True, text=True)
    assert process.returncode == 141 and not process.stderr, process.stderr


# Reports


@pytest.mark.parametrize(
    "line",
    [
        "[train_inner][INFO] - " + "{" * 5000,
        "[train_inner][INFO] - " + "{" * 5000 + "}" * 4999,
        "train_inner | " + "train num_updates " * 5000,
        "train_inner " * 5000 + "}",
        "train_inner | num_updates " + "1" * 10**6,
        "train_inner | " + '{"a":' * 20000 + "}",
    ],
    ids=range(6),
)
def test_logs_that_take_no_time(tmp_path, line):
    write(tmp_path / "log", line + "\n")
    with pytest.raises(ValueError, match="has no lines of a fairseq training"):
        read_log(str(tmp_path / "log"))


@pytest.mark.parametrize("count", [41, 400])
def test_many_classes(count):
    from varan_fairseq.report.figures import MOST_CLASSES, draw_confusion
    from varan_fairseq.report.pictures import pyplot

    plt = pyplot()
    confusion = np.eye(count, dtype=int) * 5
    confusion[7, 9] = 3
    names = [f"class {index}" for index in range(count)]
    figure = draw_confusion(plt, confusion, names, "test")
    assert len(figure.axes[0].get_xticklabels()) == MOST_CLASSES
    assert "class 7" in [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert f"{MOST_CLASSES} of {count} classes" in figure.axes[0].get_title()
    assert max(figure.get_size_inches()) < 30
    plt.close(figure)


def scored(emotion, tmp_path, change=None):
    data = copy(emotion.data, tmp_path / "data")
    out = tmp_path / "out"
    return tool(classify.main, emotion.checkpoint, data, "test", "--out", out), out


def test_a_picture_that_fails(emotion, tmp_path, monkeypatch, caplog):
    from varan_fairseq.report import scores

    def fail(*arguments):
        raise MemoryError("too many pixels")

    monkeypatch.setattr(scores, "draw_confusion", fail)
    (code, _, error), out = scored(emotion, tmp_path)
    assert code == 0, error
    assert (out / "scores.json").exists() and (out / "confusion.csv").exists()
    assert "confusion.png: too many pixels" in caplog.text and not (out / "confusion.png").exists()


def test_classes_of_signs(tmp_path):
    """What a spreadsheet takes for a formula, and matplotlib for mathematics."""
    from varan_fairseq.report.scores import Predictions, write_scores

    classes = ["$x_", "+1", "-1", "@a", "b$"]
    probs = np.eye(5) * 0.6 + 0.1
    predictions = Predictions(list("abcde"), probs, np.ones((5, 1)), np.arange(5))
    about = {"checkpoint": "c", "subset": "te$st_"}
    scores = write_scores(str(tmp_path / "out"), predictions, classes, about)
    assert scores["accuracy"] == 100 and (tmp_path / "out" / "confusion.png").exists()
    rows = read(tmp_path / "out" / "confusion.csv").splitlines()
    assert [row.split(",")[0] for row in rows] == ["label", "$x_", " +1", " -1", " @a", "b$"]


# Scripts of corpora


def test_transcripts_in_latin_1(script, tmp_path):
    chapter = tmp_path / "L" / "train-clean-100" / "1" / "7"
    tone(chapter / "1-7-0000.flac")
    write(chapter / "1-7.trans.txt", b"1-7-0000 SE\xd1OR\n")
    refusal, text = script("librispeech.py", tmp_path / "L", tmp_path / "out", "--allow-incomplete")
    assert refusal == "2" and "1-7.trans.txt, line 1: byte 0xd1 is not UTF-8" in text


def test_a_table_of_common_voice_in_latin_1(script, tmp_path):
    (tmp_path / "cv").mkdir()
    write(tmp_path / "cv" / "train.tsv", b"client_id\tpath\tsentence\na\tb.mp3\tni\xf1o\n")
    refusal, text = script("commonvoice.py", tmp_path / "cv", tmp_path / "out")
    assert refusal == "2" and "train.tsv, line 2: byte 0xf1 is not UTF-8" in text


def test_conditions_of_audio_that_is_no_number(script, ctc, tmp_path):
    data = copy(ctc.data, tmp_path / "data")
    rows = read(os.path.join(data, "test.tsv")).split("\n")
    write(os.path.join(data, "test.tsv"), "\n".join([f"{data}/wav", *rows[1:]]))
    name, samples = rows[1].split("\t")
    wave = np.full(int(samples), np.nan)
    soundfile.write(os.path.join(data, "wav", name), wave, 16000, subtype="FLOAT")
    refusal, text = script("conditions.py", data, tmp_path / "out")
    assert refusal == "2" and "test0.wav: NaN or infinite samples" in text
    assert not (tmp_path / "out" / "test.tsv").exists()


def test_a_corpus_of_a_clock(script, tmp_path):
    """Its headers say 1 Hz: a second of it would become 16,000."""
    for index in range(9):
        tone(tmp_path / "in" / "ab"[index % 2] / f"{index}.wav", rate=1)
    refusal, text = script("folder.py", tmp_path / "in", tmp_path / "out")
    assert "9 of 9 recordings cannot be read" in refusal
    assert "a sample rate of 1 Hz, expected 1000 Hz or more" in text
