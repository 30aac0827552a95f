"""fairseq's training as a process that is watched: its overrides, its log, its progress."""

import os
import re
import shlex
import subprocess
import sys
import time
from typing import Any, Iterator, Optional, Sequence, Tuple

from omegaconf import OmegaConf
from tqdm import tqdm

from .files import write_lines

BIN = os.path.dirname(sys.executable)
# One thread a run, as many runs as cores: on a CPU models this small gain nothing from a
# second thread. glibc would otherwise return the large buffers after every update.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}


def call(
    command: Sequence[str],
    log: str,
    threads: Optional[int] = None,
    updates: Optional[int] = None,
    bars: bool = False,
) -> None:
    """Runs a command, its output in a log; on failure shows the log's end and stops.

    updates: of a training, which then has a bar. bars: the command shows its own, on stderr.
    """
    tqdm.write("$ " + " ".join(shlex.quote(part) for part in command))
    environment = {**os.environ, **ENVIRONMENT}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    program = [os.path.join(BIN, command[0]), *command[1:]]
    with open(log, "w", encoding="utf-8") as file:
        stderr = None if bars else subprocess.STDOUT
        process = subprocess.Popen(program, stdout=file, stderr=stderr, env=environment)
        try:
            if updates:
                _follow(process, log, updates)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        with open(log, encoding="utf-8") as file:
            sys.exit(f"{file.read()[-3000:]}\nfailed, see {log}")


def _follow(process: subprocess.Popen, log: str, updates: int) -> None:
    """A bar from what a training logs: updates of how many, time left, loss."""
    name = "/".join(os.path.dirname(log).split("/")[-2:])
    with tqdm(total=updates, desc=name, unit="update") as bar, open(log, encoding="utf-8") as file:
        while process.poll() is None:
            time.sleep(0.5)
            step, loss = latest(file.read())
            if loss:
                bar.set_postfix(loss=loss, refresh=False)
            if step:
                bar.update(int(step) - bar.n)


def latest(text: str) -> Tuple[str, str]:
    """(number of updates, loss) as a training's log says them last; "" where it says none."""
    steps = re.findall(r'num_updates(?:=|": ")(\d+)', text)
    losses = re.findall(r'\bloss(?:=|": ")([\d.]+)', text)
    return (steps or [""])[-1], (losses or [""])[-1]


def as_overrides(recipe: Any, settings: Sequence[str]) -> Iterator[str]:
    """KEY=VALUE of each setting as hydra wants it: with a plus where the recipe lacks the key."""
    for setting in settings:
        key, value = setting.lstrip("+").split("=", 1)
        section, name = key.split(".", 1)
        # `name in recipe[section]` is False for a value of ???
        known = section in recipe and name in list(recipe[section])
        yield f"{'' if known else '+'}{key}={value}"


def max_update(recipe: Any, settings: Sequence[str]) -> int:
    """How many updates a recipe trains, with these settings; 0 if neither says it."""
    given: Any = OmegaConf.from_dotlist([setting.lstrip("+") for setting in settings])
    for source in (given, recipe):
        value = source.get("optimization", {}).get("max_update")
        if value is not None:
            return int(value)
    return 0


def train(
    name: str,
    config: str,
    overrides: Sequence[str],
    threads: Optional[int] = None,
    folder: str = "examples/demo",
) -> str:
    """fairseq-hydra-train of a config in `folder` unless its checkpoint is there; returns the
    checkpoint."""
    checkpoint = os.path.join(name, "checkpoint_last.pt")
    if not os.path.exists(os.path.join(name, "done")):
        os.makedirs(name, exist_ok=True)
        command = ["fairseq-hydra-train", "--config-dir", folder, "--config-name", config]
        recipe = OmegaConf.load(f"{folder}/{config}.yaml")
        settings = [f"checkpoint.save_dir={name}", *overrides]
        call(
            [*command, *as_overrides(recipe, settings)],
            os.path.join(name, "train.log"),
            threads,
            updates=max_update(recipe, overrides),
        )
        write_lines(os.path.join(name, "done"), [])
    return checkpoint
