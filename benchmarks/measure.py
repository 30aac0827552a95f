"""Interleaved timing and peak memory, shared by the benchmarks."""

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import torch

from varan_fairseq.runtime.files import write_lines


def interleaved_seconds(works: Dict[str, Callable[[], None]], rounds: int) -> Dict[str, float]:
    """Median seconds of each, taking turns, to and fro, so that a busy moment hits all alike."""
    seconds = {name: [] for name in works}
    for round_ in range(rounds + 1):  # the first warms up
        for name, work in list(works.items())[:: -1 if round_ % 2 else 1]:
            _synchronise()
            start = time.perf_counter()
            work()
            _synchronise()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def short(seconds: float) -> float:
    """For a table: milliseconds of what a CPU does, three digits of what a GPU does."""
    return round(seconds, 3) if seconds >= 0.1 else float(f"{seconds:.3g}")


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed buffers instead of returning them to the system after
    every operation, as examples/demo/compare.py does: on a CPU page faults are otherwise a
    third of the time. Distorts memory, so not for `peak_megabytes`."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        no_mmap, trim_threshold = -4, -1
        libc.mallopt(no_mmap, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_megabytes(work: Callable[[], None]) -> float:
    """Peak memory that `work` adds: of the GPU if there is one, else of this process (Linux),
    which should be fresh (see `in_fresh_process`). What torch itself loads is not counted."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    _load_libraries()
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from here
    work()
    return _status("VmHWM") - before


def _load_libraries() -> None:
    """A training step on next to nothing: the first one loads 90 MB of libraries."""
    layer = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(64, 64)).sum().backward()
    optimizer.step()


def _status(key: str) -> float:
    """A line of /proc/self/status in MB. (getrusage's peak includes the parent's.)"""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 2**10 for line in file if line.startswith(key))


def cores() -> int:
    """CPU cores that this process may use: all, or what `taskset` leaves."""
    return len(os.sched_getaffinity(0))


def machine(half: bool = True) -> str:
    """What the figures are of. half: whether the benchmark uses fp16 on a GPU."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name() + (", fp16" if half else "")
    else:
        device = f"{cores()} CPU core{'s' * (cores() > 1)}, float32"
    return f"{device}, torch {torch.__version__}"


Rows = Union[List[Dict[str, Any]], List[List[Dict[str, Any]]]]


def write_figures(path: str, rows: Rows, half: bool = True) -> None:
    """Rows, or the rows of several tables, as JSON, with the command that made them and the machine
    (see `machine`)."""
    command = " ".join(["python", *sys.argv])
    about = {"command": command, "machine": machine(half), "rows": rows}
    write_lines(path, [json.dumps(about, indent=1)])


def report(rows: Rows, path: Optional[str], half: bool = True) -> None:
    """Prints a benchmark's rows as tables, and writes them if there is a path."""
    print(machine(half), *markdown(rows), sep="\n")
    if path:
        write_figures(path, rows, half)


def markdown(rows: Rows) -> Iterator[str]:
    """Figures of `write_figures` as the lines of a table, or of several."""
    if isinstance(rows[0], list):
        for table in rows:
            yield from markdown(table)
            yield ""
        return
    names = list(rows[0])
    yield "| " + " | ".join(name.replace("_", " ") for name in names) + " |"
    yield "| --- " * len(names) + "|"
    for row in rows:
        yield "| " + " | ".join(str(row[name]) for name in names) + " |"


def fresh_megabytes(script: str, cases: List[Tuple[str, ...]], rounds: int) -> List[float]:
    """Of each case's arguments the median of what `in_fresh_process` returns, `rounds` times. A GPU's
    allocator counts what is asked for: once is enough there, and three cases go at once."""
    if torch.cuda.is_available():
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda case: in_fresh_process(script, *case), cases))
    return [
        statistics.median(in_fresh_process(script, *case) for _ in range(rounds)) for case in cases
    ]


def in_fresh_process(script: str, *arguments: str) -> float:
    """Runs `script --memory arguments` and returns the number it prints last. glibc gives freed
    buffers back at once: how many it would keep is chance (95 MB or 260 for the same work)."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, "--memory", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
