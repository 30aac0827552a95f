"""Overlays for clusters: a sweep by submitit on this machine, and what Slurm would be told."""

import os
import signal
import subprocess
import sys
import time

import hydra
import preloaded
import pytest
import torch
from conftest import REPO, command, save_pretrained, shell, write_corpus
from omegaconf import OmegaConf

SMALL = [
    "common.fp16=false",
    "common.cpu=true",
    "common.log_interval=1",
    "checkpoint.save_interval_updates=5",
    "dataset.valid_subset=valid",
    "dataset.num_workers=0",
    "dataset.max_tokens=80000",
    "dataset.validate_after_updates=0",
    "optimization.update_freq=[1]",
    "optimization.max_update=20",
    "model.posterior_heads=4",
    "model.mask_channel_length=8",
]
RUNS = [f"lr_0.001-beta_0.05-seed_{seed}" for seed in (1, 2)]


def sweep(launcher, seed):
    """The command, to be run in the folder of the runs."""
    return [
        command("fairseq-hydra-train"),
        "--multirun",
        "--config-dir",
        os.path.join(REPO, "examples"),
        "--config-name",
        "wav2vec2_base_libri_10m",
        "+cluster=sweep",
        f"hydra/launcher={launcher}",
        f"common.user_dir={REPO}/varan_fairseq",
        "task.data=../data",
        "model.w2v_path=../base.pt",
        "optimization.lr=[0.001]",
        f"common.seed={seed}",
        *SMALL,
    ]


def tasks(folder):
    """(process, log) of the jobs that run; a job is named by the process that waits for it."""
    for name in os.listdir("/proc"):
        stat = read(f"/proc/{name}/stat") if name.isdigit() else ""
        if stat:
            parent = stat.rpartition(")")[2].split()[1]
            log = os.path.join(folder, ".submitit", parent, f"{parent}_0_log.out")
            if os.path.exists(log):
                yield int(name), log


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # not there yet, or a process that has ended
        return ""


def test_a_sweep_with_a_run_that_is_queued_again(tmp_path):
    """As Slurm does before it takes a node away: the run resumes from its checkpoint."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    write_corpus(tmp_path / "data")
    save_pretrained(tmp_path / "base.pt")
    folder = str(tmp_path / "work")
    os.makedirs(folder)
    process = preloaded.start(sweep("submitit_local", "1"), folder)
    interrupted = None
    try:
        while process.poll() is None:
            time.sleep(0.1)
            for pid, path in () if interrupted else tasks(folder):
                if "Saved checkpoint" in read(path):
                    os.kill(pid, signal.SIGUSR2)
                    interrupted = path
                    break
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == 0, process.said()[0][-3000:]
    text = read(interrupted)
    loaded = [line for line in text.split("\n") if "Loaded checkpoint" in line]
    assert len(loaded) == 1 and "@ 0 updates" not in loaded[0], text[-3000:]
    # one is there already: it stays, and the other is trained
    again = shell(*sweep("basic", "1,2"), cwd=folder)
    assert again.count("this run is finished") == 1
    assert sorted(os.listdir(os.path.join(folder, "checkpoints", "sweep"))) == RUNS
    for run in RUNS:
        state = torch.load(os.path.join(folder, "checkpoints", "sweep", run, "checkpoint_last.pt"))
        assert state["optimizer_history"][-1]["num_updates"] == 20
        assert state["cfg"]["checkpoint"]["save_dir"].endswith(run)
    script = os.path.join(REPO, "examples", "cluster", "table.py")
    lines = shell(script, "checkpoints/sweep", cwd=folder).strip().split("\n")
    lines = lines[lines.index(next(line for line in lines if line.startswith("|"))) :]
    assert lines[0] == "| seeds | wer | 95% interval |"
    assert len(lines) == 3 and "| 1 2 |" in lines[2]


@pytest.mark.parametrize("name", ["one_node", "two_nodes"])
def test_what_slurm_is_told(name):
    cfg = OmegaConf.load(os.path.join(REPO, "examples", "cluster", f"{name}.yaml"))
    launcher, training = cfg.hydra.launcher, cfg.distributed_training
    assert training.distributed_world_size == launcher.nodes * launcher.tasks_per_node
    assert launcher.tasks_per_node == launcher.gpus_per_node and training.distributed_port > 0
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    known = config.SlurmQueueConf.__dataclass_fields__
    assert set(launcher) <= set(known)
    assert launcher.max_num_timeout > 0


def test_intervals():
    from table import Run, interval, table

    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / 3**0.5)
    runs = [Run({"a": lr, "b": 1}, seed, "wer", lr + seed) for lr in (5, 1) for seed in (1, 2)]
    lines = list(table(runs))
    assert lines[0] == "| a | seeds | wer | 95% interval |"
    assert lines[2].startswith("| 1 | 1 2 | 2.50 |") and lines[3].startswith("| 5 | 1 2 | 6.50 |")


def test_runs_of_other_data_are_no_seeds():
    from table import Run, table

    runs = [Run({"task.data": data}, seed, "wer", seed) for data in "ab" for seed in (1, 2)]
    lines = list(table(runs))
    assert len(lines) == 4 and lines[0].startswith("| task.data | seeds |")


def test_a_table_of_each_metric(tmp_path, monkeypatch, capsys):
    import table

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint_best.pt").write_text("")
    metrics = {"a": "wer", "b": "accuracy"}
    read = lambda path: table.Run({}, 1, metrics[path.split("/")[-2]], 7.0)  # noqa: E731
    monkeypatch.setattr(table, "read", read)
    monkeypatch.setattr("sys.argv", ["table.py", str(tmp_path)])
    table.main()
    text = capsys.readouterr().out
    assert (
        "| seeds | accuracy | 95% interval |" in text and "| seeds | wer | 95% interval |" in text
    )


def test_the_data_of_a_run(tmp_path):
    """Are among its settings; copies of them and the seed are not."""
    from table import OWN, SECTIONS

    assert "task" in SECTIONS and "task.data" not in OWN and "model.data" in OWN


@pytest.mark.skipif(not hasattr(hydra, "compose"), reason="hydra 1.0 has no such sweepers")
def test_what_a_sweeper_is_told(tmp_path):
    """The metric of the run, which fairseq's command drops."""
    data = write_corpus(tmp_path / "data", ("train", "valid"))
    base = save_pretrained(tmp_path / "base.pt")
    script = os.path.join(REPO, "examples", "cluster", "search.py")
    said = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, *sys.argv[1:]]\n"
        "from hydra._internal import hydra as inside\n"
        "run = inside.Hydra.run\n"
        "def kept(*args, **options):\n"
        "    done = run(*args, **options)\n"
        "    print('returned', done.return_value)\n"
        "    return done\n"
        "inside.Hydra.run = kept\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
    )
    recipe = ["--config-dir", os.path.join(REPO, "examples"), "--config-name"]
    small = [*SMALL, "optimization.max_update=2", f"checkpoint.save_dir={tmp_path}/out"]
    files = [f"task.data={data}", f"model.w2v_path={base}"]
    user_dir = "common.user_dir=" + os.path.join(REPO, "varan_fairseq")
    done = subprocess.run(
        [sys.executable, "-c", said, *recipe, "wav2vec2_base_libri_10m", user_dir, *files, *small],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    best = torch.load(tmp_path / "out" / "checkpoint_last.pt")["extra_state"]["val_loss"]
    assert float(done.stdout.split("returned ")[1].split()[0]) == pytest.approx(best, abs=0.01)
