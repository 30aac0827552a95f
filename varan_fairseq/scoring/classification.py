"""Metrics of a classifier, all from one confusion matrix.

Rows are the labels, columns the predictions. A class is empty if it has no examples, and
absent if it was not predicted either. Definitions follow scikit-learn's defaults.
"""

from typing import Dict

import numpy as np
import torch
from torch import Tensor

# Names under which they are logged and written, in percent.
METRICS = ("accuracy", "unweighted_accuracy", "macro_f1", "weighted_f1")


def confusion_matrix(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """targets, predictions: [B] long -> counts [C, C] float32, on their device."""
    cells = targets.new_zeros(num_classes**2)  # not by bincount, which makes a GPU's host wait
    cells.scatter_add_(0, targets * num_classes + predictions, torch.ones_like(targets))
    return cells.view(num_classes, num_classes).float()


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Share of each class's examples that were recognised: [C, C] -> [C], NaN where empty."""
    examples = confusion.sum(1)
    return np.where(examples > 0, confusion.diagonal() / np.maximum(examples, 1), np.nan)


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """[C, C] -> [C]: harmonic mean of precision and recall, NaN where the class is absent."""
    both = confusion.sum(0) + confusion.sum(1)
    return np.where(both > 0, 2 * confusion.diagonal() / np.maximum(both, 1), np.nan)


def summary(confusion: np.ndarray) -> Dict[str, float]:
    """`METRICS` in percent, from counts [C, C]; NaN if there are none.

    accuracy; unweighted_accuracy: mean recall of the classes that are not empty; macro_f1:
    mean F1 of the classes that are not absent; weighted_f1: mean F1, weighted by examples.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    examples, total = confusion.sum(1), confusion.sum()
    if total == 0:
        return dict.fromkeys(METRICS, float("nan"))
    f1 = f1_scores(confusion)
    values = (
        confusion.trace() / total,
        np.nanmean(recalls(confusion)),
        np.nanmean(f1),
        np.nansum(f1 * examples) / total,
    )
    return {name: 100 * float(value) for name, value in zip(METRICS, values)}
