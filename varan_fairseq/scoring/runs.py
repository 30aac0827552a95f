"""Several runs of the same training, with other seeds: their rate, and how two ways differ.

Intervals hold for new seeds and for new utterances: a resample draws both, the seeds of each way
apart, the utterances for both ways alike, since they heard the same ones. What the few seeds add is
widened as Student's t has it. Of a single seed nobody knows how seeds differ: its interval is of
the utterances alone, and no difference may be called certain by it.
"""

import functools
from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np

from .rates import NORMAL, student_t

_RESAMPLES = 10000


@dataclass(frozen=True)
class Estimate:
    """In percent, or points of it. low, high: the 95% interval."""

    value: float
    low: float
    high: float


def mean_rate(errors: Any, lengths: Any) -> Estimate:
    """errors: [S, N], of S runs in N utterances. lengths: [N]. The mean of the runs' rates. Raises
    ValueError for shapes that do not fit, or if there is nothing to have a rate of."""
    errors, lengths = _checked(errors, lengths)
    draws = _draws(tuple(lengths))
    rates = _rates(errors, draws, 1, len(errors) - 1)
    return _estimate(100 * errors.sum(1).mean() / lengths.sum(), rates)


def difference(ours: Any, theirs: Any, lengths: Any) -> Estimate:
    """Mean rate of theirs minus that of ours, in points: above 0 where ours makes fewer errors.
    ours: [S, N], theirs: [S', N], in the same utterances of `lengths` [N]. Raises as
    `mean_rate`."""
    ours, lengths = _checked(ours, lengths)
    theirs, _ = _checked(theirs, lengths)
    draws = _draws(tuple(lengths))
    value = 100 * (theirs.sum(1).mean() - ours.sum(1).mean()) / lengths.sum()
    freedom = max(len(ours) - 1, 0) + max(len(theirs) - 1, 0)
    return _estimate(value, _rates(theirs, draws, 2, freedom) - _rates(ours, draws, 1, freedom))


def _checked(errors: Any, lengths: Any) -> Tuple[Any, Any]:
    errors, lengths = np.asarray(errors, np.float64), np.asarray(lengths, np.float64)
    if errors.ndim != 2 or not len(errors) or errors.shape[1:] != lengths.shape:
        raise ValueError(
            f"errors of shape {errors.shape} and lengths of shape {lengths.shape}: expected [runs, N] "
            "and [N]"
        )
    if not lengths.sum():
        raise ValueError("the transcripts are empty, so there is no rate")
    return errors, lengths


@dataclass(frozen=True)
class _Draws:
    """often: [resamples, N], how often each utterance is drawn, the same for the same N. total:
    [resamples], of their lengths."""

    often: np.ndarray
    total: np.ndarray


@functools.lru_cache(maxsize=1)  # a table asks for the same ones in every cell
def _draws(lengths: Tuple[float, ...]) -> _Draws:
    count = len(lengths)
    draws = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    draws = draws.astype(np.float64)  # once, rather than in every product
    total = draws @ lengths
    return _Draws(draws[total > 0], total[total > 0])  # of empty transcripts there is no rate


@functools.lru_cache(maxsize=8)
def _chosen(runs: int, count: int, seed: int) -> np.ndarray:
    """[count, runs]: how often each run is drawn, of one less than there are."""
    return np.random.default_rng(seed).multinomial(runs - 1, np.full(runs, 1 / runs), count)


def _rates(errors: np.ndarray, draws: _Draws, seed: int, freedom: int) -> np.ndarray:
    """Of every resample, for which one run less is drawn than there are: the variance of their
    mean is then the unbiased one, which makes a difference where runs are few (Rao and Wu,
    1988). Its deviation from the mean of all is that of a normal distribution, and becomes that
    of Student's t with so much freedom."""
    runs = len(errors)
    wrong = draws.often @ errors.T
    mean = wrong.mean(1)
    if runs > 1:
        drawn = (wrong * _chosen(runs, len(draws.total), seed)).sum(1) / (runs - 1)
        mean = mean + student_t(freedom) / NORMAL * (drawn - mean)
    return 100 * mean / draws.total


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
