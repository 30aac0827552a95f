"""Interleaved timing and peak memory, shared by the benchmarks."""

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Callable, Dict

import torch


def interleaved_seconds(works: Dict[str, Callable[[], None]], rounds: int) -> Dict[str, float]:
    """Median seconds of each, taking turns so that a busy moment hits all alike."""
    seconds = {name: [] for name in works}
    for round_ in range(rounds + 1):  # the first warms up
        for name, work in works.items():
            _synchronise()
            start = time.perf_counter()
            work()
            _synchronise()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_megabytes(work: Callable[[], None]) -> float:
    """Peak memory that `work` adds: of the GPU if there is one, else of this process, which
    must be fresh (see `in_fresh_process`)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def in_fresh_process(script: str, *arguments: str) -> float:
    """Runs `script --memory arguments` and returns the number it prints last."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, "--memory", *arguments],
        stdout=subprocess.PIPE,
        universal_newlines=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
