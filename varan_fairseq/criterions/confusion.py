"""A confusion matrix in fairseq's log: summed over batches and workers, metrics on demand."""

from typing import Any, Dict, List, Sequence

import numpy as np
from fairseq.logging import metrics
from torch import Tensor

from ..scoring.classification import METRICS, recalls, summary


def log_confusion(logging_outputs: List[Dict[str, Any]]) -> None:
    """Adds up `_confusion` [C, C] of the logging outputs and logs `METRICS`, in percent."""
    # An ordinary meter holds the matrix: fairseq cannot restore meters it does not know.
    confusion = sum(log["_confusion"].cpu().double() for log in logging_outputs)
    metrics.log_scalar("_confusion", confusion)
    for name in METRICS:
        metrics.log_derived(name, _Metric(name))


def log_recalls(classes: Sequence[str]) -> None:
    """Logs `recall_<class>` of every class, in percent, NaN for one without examples."""
    for row, name in enumerate(classes):
        metrics.log_derived(f"recall_{name}", _Recall(row), priority=70)


def _counts(meters) -> np.ndarray:
    counts = meters["_confusion"].sum
    return counts.numpy() if isinstance(counts, Tensor) else np.zeros((1, 1))  # just reset


class _Metric:
    def __init__(self, name: str):
        self.name = name

    def __call__(self, meters) -> float:
        return round(summary(_counts(meters))[self.name], 3)


class _Recall:
    def __init__(self, row: int):
        self.row = row

    def __call__(self, meters) -> float:
        counts = _counts(meters)
        return round(100 * float(recalls(counts)[self.row]), 3) if counts.any() else float("nan")
