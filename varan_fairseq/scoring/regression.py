"""Metrics of predicted numbers, all from sums over utterances."""

from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .rates import MANY, Interval

# Names under which they are logged and written.
METRICS = ("ccc", "pearson", "mse")


def spread(values: Sequence[Sequence[float]]) -> Tuple[np.ndarray, np.ndarray]:
    """(mean [D], standard deviation [D]) of values [N, D]."""
    array = np.asarray(values, dtype=np.float64)
    return array.mean(0), array.std(0)


def moments(targets: Tensor, predictions: Tensor) -> Tensor:
    """Sums over utterances, [D, 6] float64: of 1, y, p, y^2, p^2 and yp. targets, predictions:
    [B, D]."""
    y, p = targets.double(), predictions.double()
    terms = (torch.ones_like(y), y, p, y * y, p * p, y * p)
    return torch.stack([term.sum(0) for term in terms], dim=1)


def concordance_interval(
    targets: np.ndarray, predictions: np.ndarray, resamples: int = 1000, seed: int = 0
) -> List[Interval]:
    """95% interval of the CCC of each of D numbers, by a bootstrap over utterances; None for fewer than
    `rates.MANY`. targets, predictions: [N, D]."""
    if len(targets) < MANY:
        return [None] * targets.shape[1]
    y, p = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    terms = np.stack([np.ones_like(y), y, p, y * y, p * p, y * p], axis=2)  # [N, D, 6]
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=resamples)
    sums = np.tensordot(counts.astype(np.float64), terms, axes=1)  # [R, D, 6]
    low, high = np.percentile(concordance(sums)["ccc"], [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist()))


def concordance(sums: np.ndarray) -> Dict[str, np.ndarray]:
    """`METRICS` of each of D numbers, [.., D], from `moments` [.., D, 6]; NaN without utterances.

    ccc: Lin's concordance correlation coefficient, 2 cov(y, p) / (var y + var p + (mean y -
    mean p)^2); pearson: their correlation, 0 where one of them never changes; mse: mean squared
    error.
    """
    sums = np.asarray(sums, dtype=np.float64)
    count = np.where(sums[..., 0] > 0, sums[..., 0], np.nan)
    means = sums[..., 1:] / count[..., None]
    mean_y, mean_p, square_y, square_p, product = np.moveaxis(means, -1, 0)
    var_y = np.maximum(square_y - mean_y**2, 0)
    var_p = np.maximum(square_p - mean_p**2, 0)
    covariance = product - mean_y * mean_p
    apart = var_y + var_p + (mean_y - mean_p) ** 2
    both = np.sqrt(var_y * var_p)
    return {
        "ccc": _quotient(2 * covariance, apart),
        "pearson": _quotient(covariance, both),
        "mse": np.maximum(square_y + square_p - 2 * product, 0),
    }


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below == 0, 0.0, above / np.where(below == 0, 1.0, below))
