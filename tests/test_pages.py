"""Every block of code in README and docs runs, page by page and in order, in a folder that has what
the pages speak of in a small size: an encoder of four blocks, corpora of six utterances."""

import glob
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import planted
import pytest
import soundfile
import torch
from build import save_run
from conftest import (
    REPO,
    command,
    save_pretrained,
    shell,
    write_corpus,
    write_labelled_corpus,
    write_rated_corpus,
)
from lm import write_lm
from omegaconf import OmegaConf

from varan_fairseq.corpora.asterisk import LANGUAGES
from varan_fairseq.runtime.training import as_overrides

PAGES = [os.path.join(REPO, "README.md"), *sorted(glob.glob(os.path.join(REPO, "docs", "*.md")))]

# How commands begin that this test leaves out, and why.
NOT_RUN = {
    "pip install": "the environment of the tests has it all; tests/test_installed.py installs it",
    "make ": "minutes; CI and tests/test_end_to_end.py run what these targets call",
    "python benchmarks/": "measures for minutes, alone on a machine",
    "python examples/demo/": "trains for minutes; tests/test_end_to_end.py runs the demo's parts",
    "fairseq-hydra-train --config-dir examples/demo --config-name pretrain_hubert": "trains for "
    "minutes; tests/test_end_to_end.py does it in little",
    "for seed in": "the same",
    "fairseq-hydra-train --config-dir examples/demo --config-name finetune task.data=work/demo": "the "
    "same",
    "done": "of that loop",
    "python examples/evidence/": "trains for hours; tests/test_evidence.py runs the kit, small",
    "python examples/cluster/": "reads a sweep, or asks for Optuna; tests/test_cluster.py runs them",
    "python manifests/conditions.py work/evidence": "hours; tests/test_conditions.py runs it",
    "python manifests/digits.py work/evidence": "hours; tests/test_digits.py runs it",
    "python manifests/prose.py work/evidence": "1,100 recordings; tests/test_pretraining.py makes "
    "fewer",
    "python manifests/digits.py work/more": "600 recordings; tests/test_digits.py makes fewer",
    "varan-crossval ": "starts many processes; tests/test_classify.py runs it",
    "$DECODE --shards ": "starts many processes; tests/faults/test_decoding.py runs it",
    "fairseq-hydra-train --multirun": "asks for a queue; tests/test_cluster.py has one",
    "srun ": "asks for Slurm",
    "torchrun ": "asks for two machines; tests/test_data_parallel.py has two processes",
    "ffmpeg ": "another program; tests/faults/test_decoding.py reads the standard input",
    "huggingface-cli ": "downloads",
    "varan-transcribe adapter ": "of the adapter that the line before downloads",
}

# What makes a training small, whatever its page says.
SMALL = [
    "common.cpu=true",
    "common.fp16=false",
    "dataset.num_workers=0",
    "dataset.max_tokens=320000",
    "dataset.validate_after_updates=0",
    "optimization.max_update=3",
    "optimization.update_freq=[1]",
]
# fairseq fails where masking selects none of a small encoder's channels
MASKS = ["model.mask_channel_length=8", "model.mask_channel_prob=0.5"]

SPLITS = ("train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other")
LIBRI = ("train", "valid", "dev_other", "test", "test_clean", "test_other")


def blocks(path):
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^```([a-z]*)\n(.*?)^```$", file.read(), flags=re.MULTILINE | re.DOTALL)


def reason_not_to(line):
    return next((start for start in NOT_RUN if line.startswith(start)), None)


def lines_of(block):
    """A block's commands, each in one line and without its comment."""
    for line in block.replace("\\\n", " ").split("\n"):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line:
            yield line


LOG = (
    "2026-01-01 10:00:01 | INFO | train_inner | epoch 001:     10 / 99 loss=2.5, "
    "expected_nll=2.4, posterior_01=0.2, posterior_02=0.8, num_updates=10, lr=0.002\n"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with all that the pages take for granted."""
    world = tmp_path_factory.mktemp("world")
    hubert = save_pretrained(world / "hubert_base_ls960.pt", "hubert")
    wav2vec = save_pretrained(world / "wav2vec_small.pt")
    libri, ravdess = world / "data" / "libri", world / "data" / "ravdess"
    write_corpus(libri, LIBRI)
    shutil.copytree(libri, world / "data" / "cv")
    write_lm(libri, ["ONE", "TWO", "SIX"])
    write_labelled_corpus(ravdess)
    for name, data, base, model in (
        ("run", libri, wav2vec, "varan_ctc"),
        ("hubert_base_ravdess", ravdess, hubert, "varan_classification"),
    ):
        (world / "checkpoints" / name).mkdir(parents=True)
        path = world / "checkpoints" / name / "checkpoint_best.pt"
        losses = [4.0, 3.0, 2.0, 1.0]
        save_run(path, str(data), base, model, losses, lora_rank=16, posterior_heads=16)
        state = torch.load(path, weights_only=False)
        state["extra_state"]["ema"] = state["model"]
        torch.save(state, path)
        for number in (1, 2):
            shutil.copy(path, path.parent / f"checkpoint_{number}_100.pt")
    shutil.copytree(world / "checkpoints" / "run", world / "checkpoints" / "other")
    (world / "hydra_train.log").write_text(LOG)

    shutil.copy(libri / "lm.arpa", world / "4-gram.arpa")
    with gzip.open(world / "4-gram.arpa.gz", "wb") as file:
        file.write((libri / "lm.arpa").read_bytes())
    (world / "librispeech-lexicon.txt").write_text("ONE\tW AH1 N\nTWO\tT UW1\nSIX\tS IH1 K S\n")
    rows = []
    rated = write_rated_corpus(world / "rated")
    for split in ("train", "valid", "test"):
        with open(os.path.join(rated, f"{split}.tsv")) as file:
            names = [line.split("\t")[0] for line in file.readlines()[1:]]
        rows += [f"rated/wav/{x},{split},{n}.5,{n % 4},{-n}" for n, x in enumerate(names)]
    table = "\n".join(["path,split,valence,arousal,dominance", *rows])
    (world / "labels.csv").write_text(table)
    save_pretrained(world / "WavLM-Base+.pt", "wavlm")
    speech = np.random.default_rng(0).normal(0, 0.1, 40000)
    (world / "recordings").mkdir()
    for name in ("hello.wav", "one.wav", "two.flac", "interview.mp3", "recordings/a.wav"):
        soundfile.write(str(world / name), speech, 16000)
    tone = planted.save_tone(world / "tone.wav")
    planted.plant(tone, world / "RAVDESS", planted.ravdess())
    planted.iemocap(world / "IEMOCAP_full_release", tone)

    planted.librispeech(world / "LibriSpeech", SPLITS, speakers=(19,))
    planted.asterisk(world / "unpacked", LANGUAGES["es"])
    first_hour = world / "work" / "first-hour"
    (first_hour / "pretrain_hubert").mkdir(parents=True)
    (first_hour / "es").mkdir()
    shutil.copy(hubert, first_hour / "pretrain_hubert" / "checkpoint_last.pt")
    soundfile.write(str(first_hour / "es" / "long.flac"), speech, 16000)
    for name in ("examples", "manifests", "varan_fairseq"):
        os.symlink(os.path.join(REPO, name), world / name)
    return world


def small(words):
    """A command's words, with what makes it fit for a test."""
    if words[0] == "fairseq-hydra-train":
        folder, name = (words[words.index(f"--config-{what}") + 1] for what in ("dir", "name"))
        recipe = OmegaConf.load(os.path.join(REPO, folder, f"{name}.yaml"))
        smaller = [*SMALL, *as_overrides(recipe, MASKS)]
        keys = {setting.lstrip("+").split("=")[0] for setting in smaller}
        kept = [word for word in words if word.split("=")[0] not in keys]
        if "-m" in words:  # runs elsewhere, where only `pip install .` finds a user dir by its name
            smaller.append("common.user_dir=" + os.path.join(REPO, "varan_fairseq"))
        return [*kept, *smaller]
    if "--layers" in words:
        words[words.index("--layers") + 1] = "3"
    if words[0] == "python" and words[1].endswith(("librispeech.py", "iemocap.py")):
        return [*words, "--allow-incomplete"]
    if "manifests/asterisk.py" in words:
        return [*words, "--unpacked", "unpacked"]
    return words


def run_block(kind, block, folder, variables):
    """What a block printed."""
    if kind == "python":
        (folder / "block.py").write_text(block)
        return shell(sys.executable, "block.py", cwd=folder)
    said = ""
    for line in lines_of(block):
        name, equals, value = line.partition("=")
        if equals and name.isupper():
            variables[name] = value.strip('"')
        elif not reason_not_to(line):
            said += run_line(line, folder, variables)
    return said


def run_line(line, folder, variables):
    if "|" in line or line.startswith(("gunzip ", "head ")):
        line = line.replace("gunzip", "gunzip --force")
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    line = re.sub(r"\$\((.*?)\)", lambda inner: run_line(inner[1], folder, {}).strip(), line)
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    words = []
    for word in small(shlex.split(line)):
        found = glob.glob(str(folder / word)) if "*" in word else []
        words += [os.path.relpath(path, folder) for path in found] or [word]
    program = [sys.executable] if words[0] == "python" else [command(words[0])]
    if words[1] == "-m":
        return subprocess.check_output([*program, *words[1:]], cwd=folder, text=True)
    return shell(*program, *words[1:], cwd=folder)


@pytest.mark.parametrize("page", PAGES, ids=[os.path.basename(page) for page in PAGES])
def test_a_page(page, world, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    found = blocks(page)
    assert {kind for kind, _ in found} <= {"bash", "python", "text", "yaml"}
    runs = [(kind, block) for kind, block in found if kind in ("bash", "python")]
    if all(kind == "bash" and all(map(reason_not_to, lines_of(block))) for kind, block in runs):
        return
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    variables = {"PWD": str(folder), "SLURM_ARRAY_TASK_ID": "1"}
    said = [run_block(kind, block, folder, variables) for kind, block in runs]
    if page.endswith("doors.md"):
        said = "".join(said)
        assert "loaded by transformers" in said and "{'text': " in said
        assert "ONNX Runtime's log-probabilities differ" in said


def test_what_is_left_out_is_there():
    lines = [
        line
        for page in PAGES
        for kind, block in blocks(page)
        if kind == "bash"
        for line in lines_of(block)
    ]
    assert {reason_not_to(line) for line in lines} - {None} == set(NOT_RUN)
    named = re.findall(r"tests/[\w/]+\.py", " ".join(NOT_RUN.values()))
    assert [name for name in named if not os.path.exists(os.path.join(REPO, name))] == []
