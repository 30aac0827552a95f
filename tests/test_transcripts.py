"""Word errors against jiwer, intervals against what they mean."""

import jiwer
import numpy as np
import pytest

from varan_fairseq.scoring import transcripts
from varan_fairseq.scoring.rates import interval, rate, student_t

WORDS = ["one", "two", "three", "four", "five", "six", "*", "**"]


def sentences(seed, count=60):
    """References and hypotheses, some of them empty, with words in common."""
    rng = np.random.default_rng(seed)
    references, hypotheses = [], []
    for _ in range(count):
        reference = list(rng.choice(WORDS, rng.integers(0, 9)))
        hypothesis = [word for word in reference if rng.random() > 0.1]
        for _ in range(rng.integers(0, 3)):
            hypothesis.insert(rng.integers(0, len(hypothesis) + 1), rng.choice(WORDS))
        references.append(reference)
        hypotheses.append(hypothesis)
    return references, hypotheses


@pytest.mark.parametrize("seed", range(5))
def test_wer_is_jiwers_to_the_last_digit(seed):
    references, hypotheses = sentences(seed)
    aligned = [transcripts.pairs(*pair) for pair in zip(references, hypotheses)]
    found = transcripts.summary([transcripts.edits(each) for each in aligned], [(1, 4)])
    kept = [(" ".join(r), " ".join(h)) for r, h in zip(references, hypotheses) if r]
    extra = sum(len(h) for r, h in zip(references, hypotheses) if not r)
    result = jiwer.process_words([r for r, _ in kept], [h for _, h in kept])
    errors = result.substitutions + result.deletions + result.insertions + extra
    words = sum(map(len, references))
    assert found["wer"] == 100 * errors / words and found["words"] == words
    assert found["insertions"] + found["deletions"] + found["substitutions"] == errors
    if not extra:
        assert found["wer"] == 100 * result.wer
    for reference, hypothesis, pairs in zip(references, hypotheses, aligned):
        assert [a for a, _ in pairs if a] == reference
        assert [b for _, b in pairs if b] == hypothesis
        assert transcripts.edits(pairs).errors == transcripts.distance(reference, hypothesis)


def test_summary():
    pairs = [transcripts.pairs(["a", "b", "c"], ["a", "x", "c", "d"]), transcripts.pairs(["a"], [])]
    found = transcripts.summary([transcripts.edits(each) for each in pairs], [(1, 3), (2, 7)])
    assert (found["insertions"], found["deletions"], found["substitutions"]) == (1, 1, 1)
    assert found["wer"] == 75 and found["uer"] == 30 and found["wrong_utterances"] == 2
    assert "speakers" not in found


def test_interval_is_that_of_a_binomial():
    """2,000 utterances of one word: the bootstrap is close to the normal approximation."""
    errors = (np.random.default_rng(3).random(2000) < 0.2).astype(int)
    low, high = interval(errors, np.ones(2000))
    p = errors.mean()
    half = 100 * 1.96 * np.sqrt(p * (1 - p) / 2000)
    assert low == pytest.approx(100 * p - half, abs=0.25)
    assert high == pytest.approx(100 * p + half, abs=0.25)
    assert interval(errors, np.ones(2000)) == (low, high)


def test_interval_of_speakers_is_wider_when_speakers_differ():
    speakers = np.repeat(np.arange(10), 50)
    errors = np.where(speakers < 3, 1, 0)
    narrow = interval(errors, np.ones(500))
    wide = interval(errors, np.ones(500), speakers)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    one_each = interval(errors, np.ones(500), np.arange(500))
    assert one_each == narrow


def test_nothing_has_no_rate():
    assert np.isnan(rate(0, 0))
    assert interval([1] * 9, [0] * 9) is None
    low, high = interval([0, 1] * 20, [0, 2] * 10 + [0, 4] * 10)  # resamples without a word
    assert low < 100 * 20 / 60 < high


def test_few_have_no_interval():
    assert interval([0, 1, 0, 1], [2] * 4) is None  # fewer than five
    assert interval([1] * 9, [2] * 9) is None  # all alike: how much others differ, nobody knows
    assert interval([0, 1] * 40, [2] * 80, ["a", "b", "c", "d"] * 20) is None


def truth_held(groups, each, spread, share=0.2, times=400):
    """How often an interval over so many speakers holds the rate of all speakers."""
    rng, held = np.random.default_rng(groups), 0
    k = share * (1 - share) / spread**2 - 1
    for _ in range(times):
        of_speaker = rng.beta(share * k, (1 - share) * k, groups)
        lengths = rng.integers(4, 13, (groups, each))
        errors = rng.binomial(lengths, of_speaker[:, None])
        names = np.repeat(np.arange(groups), each)
        found = interval(errors.ravel(), lengths.ravel(), names)
        held += found is not None and found[0] <= 100 * share <= found[1]
    return held / times


@pytest.mark.parametrize("groups", [5, 6, 8, 10, 15, 30])
def test_intervals_hold_what_they_promise(groups):
    """Over few speakers, where a bootstrap holds the truth in 72 to 90% of cases."""
    assert truth_held(groups, 10, 0.1) > 0.90


@pytest.mark.parametrize(
    "freedom, value", [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (100, 1.984)]
)
def test_students_t(freedom, value):
    assert student_t(freedom) == pytest.approx(value, abs=1e-3)


def test_alignment_for_a_person():
    aligned = transcripts.pairs(["the", "cat", "sat"], ["a", "cat", "sat", "down"])
    assert transcripts.alignment_text("x.wav", aligned) == [
        "x.wav: 2 errors in 3 words (1 substituted, 0 deleted, 1 inserted)",
        "  ref the cat sat ****",
        "  hyp a   cat sat down",
        "      S           I",
    ]
    # a wide character takes two columns, a combining one none
    wide = transcripts.alignment_text(
        "x", transcripts.pairs(["日本", "e\u0301"], ["日", "e\u0301"])
    )
    assert wide[1:] == ["  ref 日本 e\u0301", "  hyp 日   e\u0301", "      S"]
