"""Rates of errors, and how sure they are."""

from typing import Any, Optional, Sequence, Tuple

import numpy as np

_RESAMPLES = 1000


def rate(errors: int, length: int) -> float:
    """Percent; NaN of nothing."""
    return 100 * errors / length if length else float("nan")


def interval(
    errors: Any, lengths: Any, groups: Optional[Sequence[str]] = None
) -> Tuple[float, float]:
    """95% interval of a rate in percent, by bootstrap (percentiles of 1,000 resamples from one
    seed) over utterances, or over groups of them, such as their speakers.

    errors, lengths: [N]. groups: [N]. The same call gives the same interval. NaN of nothing.
    """
    values = np.stack([np.asarray(errors, np.float64), np.asarray(lengths, np.float64)])
    if groups is not None:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        values = np.stack([np.bincount(index, weights=row) for row in values])
    count = values.shape[1]
    if not values[1].sum():
        return float("nan"), float("nan")
    random = np.random.default_rng(1)
    rates = []
    for _ in range(_RESAMPLES):
        wrong, total = values[:, random.integers(0, count, count)].sum(1)
        if total:  # resamples of empty transcripts alone have no rate
            rates.append(100 * wrong / total)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)
