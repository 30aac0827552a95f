"""The campaign, checkpoints: what cannot be read, or must not be used, is one line that names
the file; a pickle builds known classes and no others."""

import os
import pathlib
import re

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from faulty import (
    broken_weights,
    decode,
    tool,
    write,
)

import varan_fairseq
from varan_fairseq.cli import classify, export, infer, inspect_checkpoint, layers
from varan_fairseq.runtime.pickles import peek

STRICT = hasattr(torch.serialization, "add_safe_globals")


class RunsCode:
    """Unpickled, it would leave a file."""

    def __reduce__(self):
        return (os.mkdir, ("code-ran",))


def pickled(content, **options):
    return lambda path: torch.save(content, str(path), **options)


def raw(content):
    return lambda path: write(path, content)


LEGACY = {"_use_new_zipfile_serialization": False}
FOREIGN = {
    "nothing": (raw(b""), "not a file of torch.save"),
    "text": (raw(b"hello, this is not a checkpoint\n" * 9), "not a file of torch.save"),
    "noise": (
        raw(bytes(np.random.default_rng(0).integers(0, 256, 5000).tolist())),
        "not a file of",
    ),
    "a zip that is none": (raw(b"PK\x03\x04" + b"x" * 500), "not a file of torch.save"),
    "a plain pickle": (raw(b"\x80\x02}q\x01."), "not a file of torch.save"),
    "half a checkpoint": (None, "not a file of torch.save"),
    "a list": (pickled([1, 2]), "it holds an object of class list"),
    "a tensor": (pickled(torch.ones(3)), "it holds an object of class Tensor"),
    "another dictionary": (pickled({"weights": 1}), "is not a (fairseq )?checkpoint"),
    "an odd dictionary": (pickled({101: 1}), "is not a (fairseq )?checkpoint"),
    "a class of its own": (
        pickled({"a": pathlib.PosixPath("/x")}),
        r"object of class pathlib\S*PosixPath, which may run code .*only if you trust the file",
    ),
    "code": (pickled({"a": RunsCode()}), r"object of class (posix|os).mkdir, which may run code"),
    "code, as old torch wrote": (
        pickled({"a": RunsCode()}, **LEGACY),
        r"object of class (posix|os).mkdir, which may run code",
    ),
}
READERS = {
    "train": lambda path, run, out: build_model(path, setup_task(run.data)),
    "load": lambda path, run, out: varan_fairseq.load(path),
    "inspect": (inspect_checkpoint.main, lambda path, run, out: [path]),
    "infer": (
        infer.main,
        lambda path, run, out: [f"common_eval.path={path}", f"task.data={run.data}"],
    ),
    "layers": (layers.main, lambda path, run, out: [path, run.data, "test", "--out", f"{out}/o"]),
    "merge": (export.main, lambda path, run, out: ["merge", path, f"{out}/o.pt"]),
    "adapter": (export.main, lambda path, run, out: ["adapter", path, f"{out}/o"]),
}


def error_of(reader, path, run, out):
    """The one line that a reader answers with."""
    if callable(READERS[reader]):
        with pytest.raises(ValueError) as raised:
            READERS[reader](path, run, out)
        return str(raised.value)
    main, arguments = READERS[reader]
    code, printed, error = tool(main, *arguments(path, run, out))
    assert code == 2 and not printed
    return error.strip()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign(ctc, tmp_path, monkeypatch, name, reader):
    make, expected = FOREIGN[name]
    if "code" in expected and not STRICT:
        pytest.skip("torch < 2.4 cannot be told which classes are known")
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "foreign.pt")
    if make is None:
        with open(ctc.checkpoint, "rb") as file:
            write(path, file.read()[:30000])
    else:
        make(path)
    error = error_of(reader, path, ctc, tmp_path)
    assert "foreign.pt" in error and "\n" not in error
    assert re.search(expected, error), error
    assert sorted(os.listdir(str(tmp_path))) == ["foreign.pt"]  # no code, no results


def test_a_trusted_file_can_be_read(tmp_path, monkeypatch):
    path = str(tmp_path / "own.pt")
    torch.save({"a": pathlib.PosixPath("/x")}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert peek(path) == {"a": pathlib.PosixPath("/x")}


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_numpy_numbers_are_no_strangers(tmp_path, options):
    values = [np.float64(1.5), np.float32(2), np.int64(3), np.bool_(True), np.uint8(4)]
    torch.save({"extra_state": values}, str(tmp_path / "n.pt"), **options)
    found = peek(str(tmp_path / "n.pt"))["extra_state"]
    assert found == values and [type(x) for x in found] == [type(x) for x in values]


# Weights that are no numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("reader", [name for name in READERS if name != "train"])
def test_weights_that_are_no_numbers(ctc, tmp_path, reader, value):
    path = broken_weights(ctc.checkpoint, tmp_path / "broken.pt", value)
    error = error_of(reader, path, ctc, tmp_path)
    assert "broken.pt: 1 of" in error and "weights hold NaN or infinite numbers" in error
    assert os.listdir(str(tmp_path)) == ["broken.pt"]


def test_a_classifiers_weights(emotion, tmp_path):
    path = broken_weights(emotion.checkpoint, tmp_path / "broken.pt")
    wave = os.path.join(emotion.data, "wav", "test0.wav")
    for arguments in ([path, wave], [path, emotion.data, "test"]):
        code, out, error = tool(classify.main, *arguments)
        assert code == 2 and not out and "weights hold NaN or infinite numbers" in error


def test_a_pre_trained_models_weights(ctc, tmp_path):
    path = broken_weights(ctc.base, tmp_path / "base.pt", name="encoder.layers.1.fc1.weight")
    with pytest.raises(ValueError, match="base.pt: 1 of .*first is encoder.layers.1.fc1.weight"):
        build_model(path, setup_task(ctc.data))
    code, _, error = tool(inspect_checkpoint.main, path)
    assert code == 2 and "hold NaN or infinite numbers" in error


# The base of a checkpoint that lacks its encoder's configuration, as old ones of HuBERT's task


@pytest.fixture
def without_encoder(ctc, tmp_path):
    state = torch.load(ctc.checkpoint)
    state["cfg"]["model"].update(w2v_args=None, w2v_path="gone.pt")
    torch.save(state, str(tmp_path / "bare.pt"))
    return str(tmp_path / "bare.pt")


def test_a_checkpoint_without_its_encoder_takes_a_base(without_encoder, ctc):
    wave = os.path.join(ctc.data, "wav", "test0.wav")
    expected = varan_fairseq.load(ctc.checkpoint).layer_posterior(wave)
    found = varan_fairseq.load(without_encoder, base=ctc.base).layer_posterior(wave)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(FileNotFoundError, match="bare.pt lacks .* not at gone.pt: give it as base"):
        varan_fairseq.load(without_encoder)
    path = f"common_eval.path={without_encoder}"
    code, out, error = decode(ctc, path, f"model.w2v_path={ctc.base}")
    assert code == 0 and "6 utterances" in out, error
    code, _, error = decode(ctc, f"model.w2v_path={ctc.base}")
    assert code == 2 and "has its encoder in itself, so it needs no base" in error
