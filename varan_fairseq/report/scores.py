"""A classifier's predictions for a split, their score and the files of both; what `varan-classify`
writes."""

import csv
import io
import json
import math
import os
from typing import Any, Dict, List, Sequence

import numpy as np
import torch

from ..data.labels import read_labels
from ..inference.model import Classifier
from ..method.choices import RULES
from ..runtime.files import MARK, cell, write_lines, written_whole
from ..scoring.classification import confusion_matrix, recalls, summary
from ..scoring.rates import interval
from .figures import draw_confusion
from .pictures import try_picture
from .utterances import Kind, Predictions

# scores.json says that the others are of the same run; without labels, utterances.tsv is all.
_FILES = ("utterances.tsv", "confusion.csv", "confusion.png", "scores.json")


def table(predictions: Predictions, classes: Sequence[str]) -> List[str]:
    """A header, and one line per utterance."""
    layers = [f"q_{layer + 1}" for layer in range(predictions.posterior.shape[1])]
    truth = [] if predictions.labels is None else ["label"]
    lines = ["\t".join(["id", *truth, "predicted", *(f"p_{name}" for name in classes), *layers])]
    for row, name in enumerate(predictions.names):
        label = [] if predictions.labels is None else [classes[predictions.labels[row]]]
        values = [*predictions.values[row], *predictions.posterior[row]]
        best = classes[predictions.values[row].argmax()]
        lines.append("\t".join([cell(name), *label, best, *(f"{value:.6f}" for value in values)]))
    return lines


def write_scores(
    folder: str, predictions: Predictions, classes: Sequence[str], about: Dict[str, Any]
) -> Dict[str, Any]:
    """Writes `_FILES`, all of them or nothing; returns the content of scores.json."""
    scores = {**about, "utterances": len(predictions.names)}
    with written_whole(folder, _FILES) as partial:
        write_lines(os.path.join(partial, MARK), [])
        write_lines(os.path.join(partial, "utterances.tsv"), table(predictions, classes))
        if predictions.labels is not None:
            predicted = torch.from_numpy(predictions.values.argmax(1))
            counts = confusion_matrix(torch.from_numpy(predictions.labels), predicted, len(classes))
            confusion = counts.long().numpy()
            scores.update(summary(confusion))
            right = predicted.numpy() == predictions.labels
            scores["accuracy_interval"] = interval(right, np.ones(len(right)))
            scores["recall"] = {
                name: None if math.isnan(value) else 100 * value
                for name, value in zip(classes, recalls(confusion))
            }
            scores["examples"] = dict(zip(classes, confusion.sum(1).tolist()))
            counted = io.StringIO()
            writer = csv.writer(counted, lineterminator="\n")
            writer.writerow(["label", *map(cell, classes)])
            writer.writerows([cell(name), *row] for name, row in zip(classes, confusion))
            write_lines(os.path.join(partial, "confusion.csv"), counted.getvalue().splitlines())
            write_lines(os.path.join(partial, "scores.json"), [json.dumps(scores, indent=2)])
            title = (
                f"{about['subset']}: accuracy {scores['accuracy']:.1f}%, unweighted "
                f"{scores['unweighted_accuracy']:.1f}%"
            )
            picture = os.path.join(partial, "confusion.png")
            try_picture(picture, lambda plt: draw_confusion(plt, confusion, classes, title))
    return scores


CLASSIFIER = Kind(
    "classify",
    "varan_classification",
    RULES,
    _FILES,
    read_labels,
    lambda model, net_output: model.get_normalized_probs(net_output, log_probs=False),
    table,
    write_scores,
    Classifier,
)
