"""Means and differences over seeds and utterances."""

import numpy as np
import pytest

from varan_fairseq.scoring.runs import Estimate, difference, mean_rate

LENGTHS = np.random.default_rng(0).integers(1, 12, 60)


def errors(rate, runs=3, seed=0, spread=0.0):
    rng = np.random.default_rng(seed)
    rates = rate + spread * rng.normal(size=(runs, 1))
    return rng.binomial(LENGTHS, np.clip(rates, 0, 1) * np.ones((runs, 1)))


def by_hand(ours, theirs, lengths, resamples=3000):
    """The same resampling, one at a time."""
    rng, found = np.random.default_rng(5), []
    for _ in range(resamples):
        drawn = rng.integers(0, len(lengths), len(lengths))
        total = lengths[drawn].sum()
        rates = []
        for way in (theirs, ours):
            each = [100 * run[drawn].sum() / total for run in way]
            runs = rng.integers(0, len(way), len(way) - 1)
            mean = np.mean(each)
            # Student's t of two means of 3 and 5: 6 degrees of freedom
            rates.append(mean + 2.447 / 1.96 * (np.mean([each[run] for run in runs]) - mean))
        found.append(rates[0] - rates[1])
    return np.percentile(found, [2.5, 97.5])


def test_against_resampling_by_hand():
    ours, theirs = errors(0.2, runs=3, spread=0.03), errors(0.25, runs=5, seed=1, spread=0.03)
    found = difference(ours, theirs, LENGTHS)
    total = LENGTHS.sum()
    wanted = 100 * (theirs.sum(1).mean() - ours.sum(1).mean()) / total
    assert found.value == pytest.approx(wanted) and found.low < wanted < found.high
    assert [found.low, found.high] == pytest.approx(by_hand(ours, theirs, LENGTHS), abs=0.4)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_what_they_promise(seeds):
    """Of two ways that do not differ, whose seeds do."""
    rng, lengths, held = np.random.default_rng(seeds), np.full(150, 5.0), 0
    for _ in range(100):
        share = np.clip(0.3 + rng.normal(0, 0.15, 150), 0, 1)
        ours, theirs = (
            np.stack(
                [rng.binomial(5, np.clip(share + rng.normal(0, 0.05), 0, 1)) for _ in range(seeds)]
            )
            for _ in range(2)
        )
        found = difference(ours, theirs, lengths)
        held += found.low <= 0 <= found.high
    assert held >= 90


def test_mean():
    runs = errors(0.2)
    found = mean_rate(runs, LENGTHS)
    assert found.value == pytest.approx(100 * runs.sum() / (3 * LENGTHS.sum()))
    assert found.low < found.value < found.high and found == mean_rate(runs, LENGTHS)


def test_the_same_runs_twice():
    runs = errors(0.2, runs=1)
    assert difference(runs, runs, LENGTHS) == Estimate(0, 0, 0)


def test_turned_round():
    ours, theirs = errors(0.2), errors(0.3, seed=1)
    there, back = difference(ours, theirs, LENGTHS), difference(theirs, ours, LENGTHS)
    assert there.value == -back.value
    assert [there.low, there.high] == pytest.approx([-back.high, -back.low], abs=0.3)


def test_utterances_are_paired():
    """Where both ways err in the same utterances, the difference is surer than either rate."""
    hard = np.random.default_rng(2).random(len(LENGTHS)) * 0.8
    rng = np.random.default_rng(3)
    base = np.stack([rng.binomial(LENGTHS, hard)] * 3)
    better = np.maximum(base - 1, 0)
    apart = difference(better, base, LENGTHS)
    alone = mean_rate(base, LENGTHS)
    assert apart.low > 0
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize("runs, spread, wanted", [(5, 0, 0.95), (5, 0.05, 0.9), (3, 0.05, 0.9)])
def test_coverage(runs, spread, wanted):
    """Of 200 experiments with no difference about 95% of the intervals hold 0; more where seeds do not
    differ, as what is chance in an utterance counts twice then."""
    held = 0
    for trial in range(200):
        ours, theirs = (errors(0.2, runs, 2 * trial + side, spread) for side in (0, 1))
        found = difference(ours, theirs, LENGTHS)
        held += found.low <= 0 <= found.high
    assert held >= 200 * wanted


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(2,\) and lengths of shape \(2,\)"):
        mean_rate([1, 2], [3, 4])
    with pytest.raises(ValueError, match=r"shape \(1, 3\) and lengths of shape \(2,\)"):
        difference([[1, 2]], [[1, 2, 3]], [3, 4])
    with pytest.raises(ValueError, match="empty"):
        mean_rate([[0, 0]], [0, 0])
