"""Metrics against scikit-learn, and how fairseq's log adds them up."""

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from varan_fairseq.scoring.classification import (
    METRICS,
    confusion_matrix,
    f1_scores,
    recalls,
    summary,
)


def labels(name):
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    return {
        "random": (truth, predicted),
        "unbalanced": (np.where(truth > 1, 0, truth), predicted),
        "empty class": (np.where(truth == 2, 3, truth), predicted),
        "never predicted": (truth, np.where(predicted == 1, 4, predicted)),
        "absent class": (np.where(truth == 2, 3, truth), np.where(predicted == 2, 3, predicted)),
        "one class": (np.full(7, 3), predicted[:7]),
        "one class, all right": (np.full(7, 3), np.full(7, 3)),
        "all wrong": (np.full(7, 3), np.full(7, 2)),
        "one utterance": (truth[:1], predicted[:1]),
    }[name]


CASES = ["random", "unbalanced", "empty class", "never predicted", "absent class", "one class"]
CASES += ["one class, all right", "all wrong", "one utterance"]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("case", CASES)
def test_against_sklearn(case):
    truth, predicted = labels(case)
    confusion = confusion_matrix(torch.from_numpy(truth), torch.from_numpy(predicted), 5).numpy()
    assert (confusion == reference.confusion_matrix(truth, predicted, labels=range(5))).all()
    found = summary(confusion)
    assert tuple(found) == METRICS
    present = sorted(set(truth) | set(predicted))
    expected = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "unweighted_accuracy": reference.recall_score(
            truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0
        ),
        "macro_f1": reference.f1_score(truth, predicted, average="macro", zero_division=0),
        "weighted_f1": reference.f1_score(truth, predicted, average="weighted", zero_division=0),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(100 * value), name
    if len(set(truth)) > 1:
        balanced = reference.balanced_accuracy_score(truth, predicted)
        assert found["unweighted_accuracy"] == pytest.approx(100 * balanced)
    each = reference.recall_score(truth, predicted, labels=range(5), average=None, zero_division=0)
    f1 = reference.f1_score(truth, predicted, labels=range(5), average=None, zero_division=0)
    for name in range(5):
        assert np.isnan(recalls(confusion)[name]) == (name not in truth)
        assert name not in truth or recalls(confusion)[name] == pytest.approx(each[name])
        assert np.isnan(f1_scores(confusion)[name]) == (name not in present)
        assert name not in present or f1_scores(confusion)[name] == pytest.approx(f1[name])


def test_nothing_counted():
    assert all(np.isnan(value) for value in summary(np.zeros((3, 3))).values())
