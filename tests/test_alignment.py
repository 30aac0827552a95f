"""CTC forced alignment against every path there is, and words with their times."""

import itertools

import numpy as np
import pytest
from fairseq.data import Dictionary

from varan_fairseq.decoding.words import timed_words, words_of
from varan_fairseq.method.alignment import align


def collapse(path):
    return [label for label, _ in itertools.groupby(path) if label != 0]


def spans_by_brute_force(log_probs, labels):
    """[(start, end)] of the likeliest of all paths."""
    frames, classes = log_probs.shape
    paths = itertools.product(range(classes), repeat=frames)
    fitting = [path for path in paths if collapse(path) == labels]
    if not fitting:
        return None
    best = max(fitting, key=lambda path: sum(log_probs[t, k] for t, k in enumerate(path)))
    runs, t = [], 0
    for label, run in itertools.groupby(best):
        length = len(list(run))
        if label != 0:
            runs.append((t, t + length))
        t += length
    return runs


@pytest.mark.parametrize("seed", range(30))
def test_the_likeliest_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.dirichlet(np.ones(4), size=rng.integers(1, 7)))
    labels = rng.integers(1, 4, rng.integers(1, 5)).tolist()
    expected = spans_by_brute_force(log_probs, labels)
    if expected is None:
        with pytest.raises(ValueError, match="labels do not fit into"):
            align(log_probs, labels, 0)
        return
    found = align(log_probs, labels, 0)
    assert [(span.start, span.end) for span in found] == expected
    for span, label in zip(found, labels):
        assert span.log_prob == log_probs[span.start : span.end, label].max()


def test_a_label_that_is_impossible():
    log_probs = np.log(np.array([[0.5, 0.5, 0.0]] * 4) + 1e-300)
    log_probs[:, 2] = -np.inf
    with pytest.raises(ValueError, match="1 labels do not fit"):
        align(log_probs, [2], 0)
    assert align(log_probs, [], 0) == []


def test_long_audio():
    """Thousands of labels, whose states are more than a byte counts."""
    labels = np.tile([1, 2, 3], 400)
    path = np.repeat(labels, 3)
    log_probs = np.log(np.full((len(path), 4), 0.1))
    log_probs[np.arange(len(path)), path] = np.log(0.7)
    found = align(log_probs, labels, 0)
    assert [span.start for span in found] == list(range(0, len(path), 3))


def dictionary(symbols):
    labels = Dictionary()
    for symbol in symbols:
        labels.add_symbol(symbol)
    return labels


@pytest.mark.parametrize(
    "spelling, units, expected",
    [
        ("letter", "A B | C |", ["AB", "C"]),
        ("letter", "| A | | B C", ["A", "BC"]),
        ("letter", "", []),
        ("letter", "| |", []),
        ("sentencepiece", "▁ab c ▁d", ["abc", "d"]),
        ("sentencepiece", "▁ ab ▁ d", ["ab", "d"]),
        ("wordpiece", "_ab c _d", ["abc", "d"]),
        ("subword_nmt", "ab@@ c d", ["abc", "d"]),
        ("_EOW", "a b_EOW c_EOW", ["ab", "c"]),
        ("silence", "AA <SIL> BB", ["AA", "BB"]),
        ("none", "AA BB", ["AA", "BB"]),
    ],
)
def test_words_are_those_of_fairseq(spelling, units, expected):
    from fairseq.data.data_utils import post_process

    labels = dictionary(units.split())
    indices = [labels.index(unit) for unit in units.split()]
    groups = words_of(indices, labels, spelling)
    assert post_process(units, spelling).split() == expected and len(groups) == len(expected)


def test_words_with_times():
    labels = dictionary(["A", "B", "|"])
    a, b, end = (labels.index(symbol) for symbol in ["A", "B", "|"])
    path = [0, a, a, 0, b, end, 0, 0, b, end]
    log_probs = np.full((len(path), len(labels)), np.log(0.01))
    log_probs[np.arange(len(path)), path] = np.log(0.9)
    log_probs[8, b] = np.log(0.4)
    options = (labels, "letter", 0, 0.02, 10.0)
    first, second = timed_words(log_probs, [a, b, end, b, end], "AB B", *options)
    assert first.text == "AB" and first.start == pytest.approx(10.02)
    assert first.end == pytest.approx(10.10) and first.confidence == pytest.approx(0.9)
    assert second.start == pytest.approx(10.16) and second.confidence == pytest.approx(0.4)
    # a lexicon may spell a word otherwise; with other words than spellings, these stand
    lexicon = timed_words(log_probs, [a, b, end, b, end], "ALPHA BETA", *options)
    assert [word.text for word in lexicon] == ["ALPHA", "BETA"]
    compound = timed_words(log_probs, [a, b, end, b, end], "ALPHABETA", *options)
    assert [word.text for word in compound] == ["AB", "B"]
