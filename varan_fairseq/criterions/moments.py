"""Sums of predicted numbers in fairseq's log: added up over batches and workers, metrics on demand."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from fairseq.logging import metrics
from torch import Tensor

from ..scoring.regression import METRICS, concordance


def log_moments(logging_outputs: List[Dict[str, Any]]) -> None:
    """Adds up `_moments` [D, 6] of the logging outputs and logs `METRICS`, as means over the D
    numbers."""
    # An ordinary meter holds them: fairseq cannot restore meters it does not know.
    metrics.log_scalar("_moments", sum(log["_moments"].cpu() for log in logging_outputs))
    for name in METRICS:
        metrics.log_derived(name, _Metric(name))


def log_each(names: Sequence[str]) -> None:
    """Logs `ccc_<name>` of every number."""
    for row, name in enumerate(names):
        metrics.log_derived(f"ccc_{name}", _Metric("ccc", row), priority=70)


class _Metric:
    def __init__(self, name: str, row: Optional[int] = None):
        self.name, self.row = name, row

    def __call__(self, meters) -> float:
        sums = meters["_moments"].sum
        if not isinstance(sums, Tensor):  # just reset
            return float("nan")
        values = concordance(sums.numpy())[self.name]
        return round(float(np.mean(values) if self.row is None else values[self.row]), 4)
