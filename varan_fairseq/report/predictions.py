"""A regressor's predictions for a split, their score and the files of both; what `varan-predict`
writes."""

import json
import os
from typing import Any, Dict, List, Sequence

import numpy as np
import torch

from ..data.values import read_values
from ..inference.model import Regressor
from ..method.choices import REGRESSION_RULES
from ..runtime.files import MARK, cell, write_lines, written_whole
from ..scoring.regression import concordance, concordance_interval, moments
from .figures import draw_predictions
from .pictures import try_picture
from .utterances import Kind, Predictions

# scores.json says that the others are of the same run; without labels, utterances.tsv is all.
_FILES = ("utterances.tsv", "predictions.png", "scores.json")


def table(predictions: Predictions, names: Sequence[str]) -> List[str]:
    """A header, and one line per utterance."""
    layers = [f"q_{layer + 1}" for layer in range(predictions.posterior.shape[1])]
    truth = [] if predictions.labels is None else [f"label_{name}" for name in names]
    lines = ["\t".join(["id", *truth, *names, *layers])]
    for row, name in enumerate(predictions.names):
        numbers = []
        if predictions.labels is not None:
            numbers = [f"{value:g}" for value in predictions.labels[row]]
        numbers += [f"{value:.6g}" for value in predictions.values[row]]
        numbers += [f"{value:.6f}" for value in predictions.posterior[row]]
        lines.append("\t".join([cell(name), *numbers]))
    return lines


def write_scores(
    folder: str, predictions: Predictions, names: Sequence[str], about: Dict[str, Any]
) -> Dict[str, Any]:
    """Writes `_FILES`, all of them or nothing; returns the content of scores.json."""
    scores = {**about, "utterances": len(predictions.names)}
    said, found = predictions.labels, predictions.values
    with written_whole(folder, _FILES) as partial:
        write_lines(os.path.join(partial, MARK), [])
        write_lines(os.path.join(partial, "utterances.tsv"), table(predictions, names))
        if said is not None:
            sums = moments(torch.from_numpy(said), torch.from_numpy(found)).numpy()
            each = {**concordance(sums), "ccc_interval": concordance_interval(said, found)}
            for metric, values in each.items():
                scores[metric] = dict(zip(names, np.asarray(values, object).tolist()))
            write_lines(os.path.join(partial, "scores.json"), [json.dumps(scores, indent=2)])
            picture = os.path.join(partial, "predictions.png")
            try_picture(picture, lambda plt: draw_predictions(plt, said, found, names))
    return scores


REGRESSOR = Kind(
    "predict",
    "varan_regression",
    REGRESSION_RULES,
    _FILES,
    read_values,
    lambda model, net_output: model.combined(net_output),
    table,
    write_scores,
    Regressor,
)
