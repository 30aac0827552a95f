#!/usr/bin/env python3
"""The runs of a sweep as one table: what differs between them, and mean and 95% interval (Student's
t) over their seeds of the metric that chose their best checkpoints, on validation data.

    python examples/cluster/table.py checkpoints/sweep

Reads each run's checkpoint_best.pt (a pickle: your own runs), so it can be called while others run.
"""

import argparse
import math
import os
import statistics
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from omegaconf import OmegaConf

from varan_fairseq.scoring.rates import student_t

SECTIONS = (
    *("task", "model", "criterion", "optimization", "optimizer", "lr_scheduler", "dataset"),
    "common",
)
# Differ between runs that are to be compared.
OWN = {"lr_scheduler.lr", "optimizer.lr"}  # optimization.lr again
OWN |= {"model.data", "criterion.data", "task.seed"}  # task.data, common.seed again
OWN |= {"common.seed", "common.tensorboard_logdir", "optimization.max_update", "model.w2v_args"}


class Run(NamedTuple):
    """settings: by names as on the command line. seed, metric, value: of its best checkpoint."""

    settings: Dict[str, Any]
    seed: int
    metric: str
    value: float


def read(path: str) -> Run:
    from varan_fairseq.runtime.pickles import peek

    state = peek(path)
    cfg = state["cfg"]
    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=True)
    settings = {
        f"{section}.{key}": value
        for section in SECTIONS
        for key, value in (cfg.get(section) or {}).items()
        if f"{section}.{key}" not in OWN
    }
    return Run(
        settings,
        cfg["common"]["seed"],
        cfg["checkpoint"]["best_checkpoint_metric"],
        float(state["extra_state"]["best"]),
    )


def interval(values: List[float]) -> Tuple[float, float]:
    """(mean, half the width of its 95% interval, NaN of one value)."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return mean, float("nan")
    return mean, student_t(count - 1) * statistics.stdev(values) / math.sqrt(count)


def table(runs: List[Run]) -> Iterator[str]:
    """Markdown, the lowest mean first."""
    keys = sorted({key for run in runs for key in run.settings})
    keys = [key for key in keys if len({str(run.settings.get(key)) for run in runs}) > 1]
    groups: Dict[Tuple[str, ...], List[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(str(run.settings.get(key)) for key in keys), []).append(run)
    yield "| " + " | ".join([*keys, "seeds", runs[0].metric, "95% interval"]) + " |"
    yield "| --- " * (len(keys) + 3) + "|"
    rows = [(interval([run.value for run in group]), group) for group in groups.values()]
    for (mean, half), group in sorted(rows, key=lambda row: row[0][0]):
        values = [str(group[0].settings.get(key)) for key in keys]
        spread = "" if math.isnan(half) else f"{mean - half:.2f} - {mean + half:.2f}"
        seeds = " ".join(str(seed) for seed in sorted(run.seed for run in group))
        yield "| " + " | ".join([*values, seeds, f"{mean:.2f}", spread]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="that holds the folders of the runs")
    folder = parser.parse_args().folder
    if not os.path.isdir(folder):
        sys.exit(f"no folder {folder}")
    runs, without = [], []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name, "checkpoint_best.pt")
        if os.path.isfile(path):
            runs.append(read(path))
        elif os.path.isdir(os.path.join(folder, name)):
            without.append(name)
    if not runs:
        sys.exit(f"{folder}: no run has a checkpoint_best.pt yet")
    for metric in sorted({run.metric for run in runs}):  # means of two would be of nothing
        print("\n".join(table([run for run in runs if run.metric == metric])))
    for name in without:
        print(f"{name}: no checkpoint_best.pt yet", file=sys.stderr)


if __name__ == "__main__":
    main()
