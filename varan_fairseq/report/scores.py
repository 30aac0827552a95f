"""A classifier on a split: its predictions, their score and the files of both; what
`varan-classify` does."""

import csv
import io
import json
import logging
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from ..data.labels import read_labels
from ..data.manifest import read_manifest
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..finetuned.results import beside, reading_overrides, results_name, setting_name
from ..inference.model import Classifier
from ..method.choices import RULES
from ..runtime.files import MARK, cell, refuse_file, refuse_foreign, write_lines, written_whole
from ..scoring.classification import confusion_matrix, recalls, summary
from ..scoring.rates import interval
from .figures import draw_confusion
from .pictures import pyplot, save_picture

logger = logging.getLogger(__name__)

# scores.json says that the others are of the same run; without labels, utterances.tsv is all.
_FILES = ("utterances.tsv", "confusion.csv", "confusion.png", "scores.json")
_MODELS = ("varan_classification",)


@dataclass(frozen=True)
class Predictions:
    """names: of the N utterances. probs: [N, C]. posterior: q(l|x) [N, K]. labels: class
    indices [N], or None."""

    names: Sequence[str]
    probs: np.ndarray
    posterior: np.ndarray
    labels: Optional[np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Of a split. folder: with its files. values: the content of scores.json. labels: path of its
    labels, which may not exist; then values have no metrics. cropped: utterances cut to the
    `longest` samples."""

    folder: str
    values: Dict[str, Any]
    labels: str
    cropped: int
    longest: Optional[int]


def classify_split(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    base: Optional[str] = None,
    out: Optional[str] = None,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
    max_tokens: int = 4000000,
) -> Scores:
    """Classifies a split, scores it if it has labels, and writes it all.

    Args:
        checkpoint: of `varan_classification` (a pickle), or the folder of an adapter.
        data, subset: folder with the manifests, and the name of one.
        base: the pre-trained checkpoint of an adapter.
        out: folder for the results; default: beside the checkpoint.
        combine, layer: read the layers otherwise than trained.
        max_tokens: samples a batch.

    Raises:
        ValueError, FileNotFoundError: before anything is written.
    """
    setting = setting_name(checkpoint, combine, layer)
    name = results_name("classify", subset, *setting)
    folder = out or os.path.join(beside(checkpoint), name)
    refuse_file(folder)
    if out:
        refuse_foreign(folder, _FILES)
    reading = reading_overrides(combine, layer, RULES)
    manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
    model, cfg, task = load_model(checkpoint, {**reading, **STRICT}, data, base, _MODELS)
    classes, labels = task.target_dictionary.symbols, None
    path = os.path.join(data, f"{subset}.{cfg.task.labels}")
    if os.path.isfile(path):
        pyplot()  # before the work whose result it draws
        labels = np.array(read_labels(path, task.target_dictionary, len(manifest.entries)))
    load_audio(model, cfg, task, subset, manifest)
    probs, posterior = predict_split(model, task, subset, max_tokens)
    check_complete(subset, len(manifest.entries), probs)
    names = [name for name, _ in manifest.entries]
    about = {"checkpoint": checkpoint, "subset": subset, "reading": reading or "as trained"}
    values = write_scores(folder, Predictions(names, probs, posterior, labels), classes, about)
    cropped = task.dataset(subset).num_cropped()
    return Scores(folder, values, path, cropped, cfg.task.max_sample_size)


def classify_files(
    checkpoint: str,
    paths: Sequence[str],
    *,
    base: Optional[str] = None,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
) -> Iterator[Union[str, ValueError]]:
    """Lines of `table` for audio files, as they are classified; the header first; an error for a
    file that cannot be. Options: see `classify_split`."""
    overrides = reading_overrides(combine, layer, RULES)
    model = Classifier(*load_model(checkpoint, overrides, base=base, models=_MODELS))
    first = 0  # line of a table: the header, until it was given
    for path in paths:
        try:
            net_output = model.run(path)
        except ValueError as error:
            yield error
            continue
        probs = model.model.get_normalized_probs(net_output, log_probs=False)
        posterior = net_output["log_q"].exp()
        predictions = Predictions([path], probs.cpu().numpy(), posterior.cpu().numpy(), None)
        yield from table(predictions, model.labels.symbols)[first:]
        first = 1


def predict_split(
    model: Any, task: Any, subset: str, max_tokens: int
) -> Tuple[np.ndarray, np.ndarray]:
    """(probabilities [N, C], posterior [N, K]) of a loaded split, in the manifest's order."""
    count = len(task.dataset(subset))
    probs = np.full((count, len(task.target_dictionary)), np.nan)
    posterior = np.full((count, model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        probs[rows] = model.get_normalized_probs(net_output, log_probs=False).cpu().numpy()
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    return probs, posterior


def table(predictions: Predictions, classes: Sequence[str]) -> List[str]:
    """A header, and one line per utterance."""
    layers = [f"q_{layer + 1}" for layer in range(predictions.posterior.shape[1])]
    truth = [] if predictions.labels is None else ["label"]
    lines = ["\t".join(["id", *truth, "predicted", *(f"p_{name}" for name in classes), *layers])]
    for row, name in enumerate(predictions.names):
        label = [] if predictions.labels is None else [classes[predictions.labels[row]]]
        values = [*predictions.probs[row], *predictions.posterior[row]]
        best = classes[predictions.probs[row].argmax()]
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
            predicted = torch.from_numpy(predictions.probs.argmax(1))
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
            try:
                save_picture(picture, lambda plt: draw_confusion(plt, confusion, classes, title))
            except (ValueError, RuntimeError, MemoryError) as error:  # the numbers are what counts
                logger.warning("no %s: %s", picture, error)
    return scores
