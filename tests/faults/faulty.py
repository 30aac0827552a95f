"""What the campaign's tests share: small trained models, and ways to break things."""

import contextlib
import io
import os
import runpy
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch
from build import train
from conftest import REPO, save_pretrained, write_corpus, write_labelled_corpus

SMALL = {"encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_layers": 3}
CTC = os.path.join(REPO, "examples", "demo", "finetune.yaml")
EMOTION = os.path.join(REPO, "examples", "demo", "emotion.yaml")
LORA = {"lora_rank": 2, "posterior_heads": 4, "freeze_finetune_updates": 0}


class Run:
    """data, base, checkpoint, out: paths of a training of three updates."""

    def __init__(self, folder, recipe, write, **model):
        self.data = write(folder / "data")
        self.base = save_pretrained(folder / "base.pt", **SMALL)
        self.out = str(folder / "out")
        self.recipe, self.model = recipe, {"posterior_heads": 4, **model}
        self.checkpoint = self.train()

    def train(self, data=None, out=None, updates=3, **changes):
        changes["model"] = {**self.model, **changes.get("model", {})}
        return train(self.recipe, data or self.data, out or self.out, self.base, updates, **changes)


@pytest.fixture(scope="session")
def ctc(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("ctc"), CTC, write_corpus, **LORA)


@pytest.fixture(scope="session")
def emotion(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("emotion"), EMOTION, write_labelled_corpus)


@pytest.fixture(scope="session")
def adapter(ctc, tmp_path_factory):
    from varan_fairseq.cli import export

    folder = str(tmp_path_factory.mktemp("adapter") / "a")
    assert export.main(["adapter", ctc.checkpoint, folder]) == 0
    return folder


@pytest.fixture
def folder(tmp_path, corpus):
    """A copy of the corpus, to break; its manifest names audio of the original."""
    return copy(corpus, tmp_path / "data")


def copy(source, target):
    return shutil.copytree(str(source), str(target))


def write(path, content):
    mode = "wb" if isinstance(content, bytes) else "w"
    with open(str(path), mode) as file:
        file.write(content)


def read(path):
    with open(str(path)) as file:
        return file.read()


def edit(path, change):
    write(path, change(read(path)))


def tool(main, *arguments):
    """(exit code, what it printed on stdout, on stderr) of a tool, in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), errors.getvalue()


def decode(run, *options):
    """What `tool` returns of varan-infer, without data workers, which would outlive the call."""
    from varan_fairseq.cli import infer

    arguments = [f"common_eval.path={run.checkpoint}", f"task.data={run.data}"]
    return tool(infer.main, *arguments, "dataset.num_workers=0", *options)


def broken_weights(checkpoint, path, value=float("nan"), name=None):
    """A copy of a checkpoint with one number that is none."""
    state = torch.load(checkpoint)
    names = [key for key, weight in state["model"].items() if weight.is_floating_point()]
    state["model"][name or names[-1]].view(-1)[0] = value
    torch.save(state, str(path))
    return str(path)


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs a script in this process: (what it refused with or None, what it printed)."""
    monkeypatch.syspath_prepend(os.path.join(REPO, "manifests"))

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(os.path.join(REPO, "manifests", name), run_name="__main__")
            refusal = None
        except SystemExit as stop:
            refusal = str(stop.code)
        captured = capsys.readouterr()
        return refusal, captured.out + captured.err

    return run


def tone(path, samples=3000, value=0.1, rate=16000, subtype="PCM_16"):
    os.makedirs(os.path.dirname(str(path)), exist_ok=True)
    wave = np.full(samples, value, dtype=np.float32)
    soundfile.write(str(path), wave, rate, subtype=subtype, format="WAV")
