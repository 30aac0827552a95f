"""The README from its first line: `pip install .`, then a team's own YAML with two names changed, from
another directory. Nothing of the clone is on the path. What the package depends on is there already:
CI installs it."""

import glob
import os
import shutil
import subprocess
import sys

import fairseq
import planted
import pytest
import soundfile
from conftest import REPO, command, save_pretrained

HERE = os.path.dirname(os.path.dirname(fairseq.__file__))
OURS = ("varan_fairseq", "examples", "manifests", "setup.py", "README.md", "pyproject.toml")
YAML = os.path.join(HERE, "fairseq/examples/wav2vec/config/finetuning/base_100h.yaml")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where packages are: a copy of the clone, installed as the README says, beside fairseq."""
    pytest.importorskip("setuptools")
    clone, site = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("site")
    for name in OURS:
        source = os.path.join(REPO, name)
        copy = shutil.copytree if os.path.isdir(source) else shutil.copy
        copy(source, clone / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*pip, "--quiet", "--target", site, "."], cwd=clone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(clone)
    for name in ("fairseq", "fairseq_cli"):  # which looks for a user dir beside itself
        shutil.copytree(os.path.join(HERE, name), site / name, copy_function=os.symlink)
    return site


def test_the_readme(installed, tmp_path):
    planted.librispeech(tmp_path / "LibriSpeech", ("train-clean-100", "dev-other"), speakers=(19,))
    save_pretrained(tmp_path / "wav2vec_small.pt", "wav2vec2")
    text = open(YAML).read()
    changed = text.replace("_name: wav2vec_ctc", "_name: varan_ctc").replace(
        "_name: ctc", "_name: varan_ctc"
    )
    assert sum(a != b for a, b in zip(text.split("\n"), changed.split("\n"))) == 2
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "ours.yaml").write_text(changed)
    environment = {**os.environ, "PYTHONPATH": str(installed), "HYDRA_FULL_ERROR": "1"}

    def run(*words):
        program = [sys.executable] if words[0] == "python" else [command(words[0])]
        done = subprocess.run(
            [*program, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    where = "import varan_fairseq; print(varan_fairseq.__file__)"
    assert run("python", "-c", where).startswith(str(installed))
    scripts = run("python", "-m", "varan_fairseq", "manifests").strip()
    run("python", f"{scripts}/librispeech.py", "LibriSpeech", "data/libri", "--allow-incomplete")
    log = run(
        "fairseq-hydra-train",
        *["--config-dir", "team", "--config-name", "ours"],
        *["common.user_dir=varan_fairseq", f"task.data={tmp_path}/data/libri"],
        f"model.w2v_path={tmp_path}/wav2vec_small.pt",
        # a small model on a CPU
        *["common.fp16=false", "common.cpu=true", "dataset.num_workers=0"],
        *["dataset.max_tokens=40000", "dataset.validate_after_updates=0"],
        *["optimization.max_update=3", "optimization.update_freq=[1]"],
        *["distributed_training.distributed_world_size=1", "+model.posterior_heads=4"],
        *["model.mask_channel_length=8", "+model.mask_length=3", "hydra.run.dir=run"],
    )
    assert "posterior_01" in log
    checkpoint = glob.glob(f"{tmp_path}/run/checkpoints/checkpoint_best.pt")[0]
    said = run(
        "varan-infer",
        f"common_eval.path={checkpoint}",
        "task.data=data/libri",
        "dataset.gen_subset=dev_other",
    )
    assert "WER" in said
    wave = glob.glob(f"{tmp_path}/LibriSpeech/**/*.flac", recursive=True)[0]
    assert soundfile.info(wave).samplerate == 16000
    run("varan-transcribe", checkpoint, wave)
    run("varan-report", checkpoint, "data/libri", "dev_other", "--out", "report.html")
    assert "<html" in (tmp_path / "report.html").read_text()
