"""Emissions of a split by several processes or machines, each with its share of the batches."""

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Sequence

if TYPE_CHECKING:
    from .emissions import Emissions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """index: 0 .. count - 1."""

    index: int
    count: int

    def folder(self, whole: str) -> str:
        """Where its part of the emissions in a folder is kept."""
        return f"{whole}.shard-{self.index + 1}-of-{self.count}"


def shard(text: str) -> Shard:
    """An argument's type: `2/4` is the second of four."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}, expected as 1/4 .. 4/4")
    return Shard(int(match[1]) - 1, int(match[2]))


def run_shards(command: Sequence[str], count: int) -> None:
    """Runs `command --shard I/COUNT` for every shard at the same time, each on a GPU if there are
    some, else with its share of the cores. Raises OSError if one fails."""
    import torch

    processes = []
    gpus = _gpus()
    try:
        for index in range(count):
            environment = dict(os.environ)
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            else:
                environment["OMP_NUM_THREADS"] = str(max(torch.get_num_threads() // count, 1))
            arguments = [*command, "--shard", f"{index + 1}/{count}"]
            processes.append(subprocess.Popen(arguments, env=environment))
        for index, process in enumerate(processes):
            if process.wait():
                raise OSError(
                    f"shard {index + 1}/{count} ended with exit code {process.returncode}"
                )
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _gpus() -> List[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return []
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


def merge_shards(whole: str, count: int, folder: str) -> "Emissions":
    """Writes into `folder` what the shards of `whole` computed, and removes them. Raises
    ValueError if one is missing or an utterance is in none."""
    import numpy as np

    from .emissions import read, save

    parts = [Shard(index, count).folder(whole) for index in range(count)]
    missing = [part for part in parts if not os.path.isfile(os.path.join(part, "computed.json"))]
    if missing:
        raise ValueError(f"no {missing[0]}: has that shard been run?")
    loaded = [read(part) for part in parts]
    rows = np.full_like(loaded[0].rows, -1)
    log_q, layer = loaded[0].log_q.copy(), loaded[0].layer.copy()
    first = 0
    for part in loaded:
        own = part.rows[:, 1] >= 0
        rows[own] = part.rows[own] + [first, 0]
        log_q[own], layer[own] = part.log_q[own], part.layer[own]
        first += len(part.log_probs)
    lost = int((rows[:, 1] < 0).sum())
    if lost:
        raise ValueError(f"{lost} utterances are in none of the {count} shards of {whole}")
    seconds = max(part.seconds for part in loaded)  # they ran at the same time
    device = f"{count} x {loaded[0].device}"
    frames = (part.log_probs for part in loaded)
    classes = loaded[0].log_probs.shape[1]
    merged = save(folder, frames, classes, rows, log_q, layer, seconds, device)
    for path in parts:
        shutil.rmtree(path)
    return merged


def own_command(argv: Sequence[str]) -> List[str]:
    """varan-infer with these arguments, in another process."""
    return [sys.executable, "-W", "ignore", "-m", "varan_fairseq.cli.infer", *argv]
