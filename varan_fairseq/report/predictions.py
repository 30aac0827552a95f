"""A regressor on a split: its predictions, their score and the files of both; what `varan-predict`
does."""

import json
import logging
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np
import torch

from ..data.manifest import read_manifest
from ..data.values import read_values
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..finetuned.results import beside, reading_overrides, results_name, setting_name
from ..inference.model import Regressor
from ..models.varan_regression import VaranRegression
from ..runtime.files import MARK, cell, refuse_file, refuse_foreign, write_lines, written_whole
from ..scoring.regression import concordance, concordance_interval, moments
from .figures import draw_predictions
from .pictures import pyplot, save_picture

logger = logging.getLogger(__name__)

# scores.json says that the others are of the same run; without labels, utterances.tsv is all.
_FILES = ("utterances.tsv", "predictions.png", "scores.json")
_MODELS = ("varan_regression",)


@dataclass(frozen=True)
class Predicted:
    """Of a split. folder: with its files. values: the content of scores.json; without metrics if
    there is no file `labels`. cropped: utterances cut to the `longest` samples."""

    folder: str
    values: Dict[str, Any]
    labels: str
    cropped: int
    longest: Optional[int]


def predict_split(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    base: Optional[str] = None,
    out: Optional[str] = None,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
    max_tokens: int = 4000000,
) -> Predicted:
    """Predicts the numbers of a split, scores them if it has labels, and writes it all.

    Args:
        checkpoint: of `varan_regression` (a pickle), or the folder of an adapter.
        data, subset: folder with the manifests, and the name of one.
        base: the pre-trained checkpoint of an adapter.
        out: folder for the results; default: beside the checkpoint.
        combine, layer: read the layers otherwise than trained.
        max_tokens: samples a batch.

    Raises:
        ValueError, FileNotFoundError: before anything is written.
    """
    name = results_name("predict", subset, *setting_name(checkpoint, combine, layer))
    folder = out or os.path.join(beside(checkpoint), name)
    refuse_file(folder)
    if out:
        refuse_foreign(folder, _FILES)
    reading = reading_overrides(combine, layer, VaranRegression.rules)
    manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
    count = len(manifest.entries)
    model, cfg, task = load_model(checkpoint, {**reading, **STRICT}, data, base, _MODELS)
    path = os.path.join(data, f"{subset}.{cfg.task.labels}")
    targets = None
    if os.path.isfile(path):
        pyplot()  # before the work whose result it draws
        targets = read_values(path, task.target_dictionary, count)
    load_audio(model, cfg, task, subset, manifest)
    values = np.full((count, len(task.target_dictionary)), np.nan)
    posterior = np.full((count, model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        values[rows] = model.combined(net_output).cpu().numpy()
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    check_complete(subset, count, values)

    names = task.target_dictionary.symbols
    scores: Dict[str, Any] = {"checkpoint": checkpoint, "subset": subset, "utterances": count}
    scores["reading"] = reading or "as trained"
    if targets is not None:
        scores.update(score(targets, values, names))
    with written_whole(folder, _FILES) as partial:
        write_lines(os.path.join(partial, MARK), [])
        ids = [name for name, _ in manifest.entries]
        write_lines(
            os.path.join(partial, "utterances.tsv"), table(ids, names, values, posterior, targets)
        )
        if targets is not None:
            write_lines(os.path.join(partial, "scores.json"), [json.dumps(scores, indent=2)])
            picture = os.path.join(partial, "predictions.png")
            try:
                save_picture(picture, lambda plt: draw_predictions(plt, targets, values, names))
            except (ValueError, RuntimeError, MemoryError) as error:  # the numbers are what counts
                logger.warning("no %s: %s", picture, error)
    cropped = task.dataset(subset).num_cropped()
    return Predicted(folder, scores, path, cropped, cfg.task.max_sample_size)


def predict_files(
    checkpoint: str,
    paths: Sequence[str],
    *,
    base: Optional[str] = None,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
) -> Iterator[Union[str, ValueError]]:
    """Lines of `table` for audio files, one by one; the header first; an error for a file that cannot
    be read. Options: see `predict_split`."""
    overrides = reading_overrides(combine, layer, VaranRegression.rules)
    model = Regressor(*load_model(checkpoint, overrides, base=base, models=_MODELS))
    first = 0  # line of a table: the header, until it was given
    for path in paths:
        try:
            net_output = model.run(path)
        except ValueError as error:
            yield error
            continue
        values = model.model.combined(net_output).cpu().numpy()
        posterior = net_output["log_q"].exp().cpu().numpy()
        yield from table([path], model.labels.symbols, values, posterior)[first:]
        first = 1


def score(targets: np.ndarray, values: np.ndarray, names: Sequence[str]) -> Dict[str, Any]:
    """Metrics of each number by its name. targets, values: [N, D]."""
    sums = moments(torch.from_numpy(targets), torch.from_numpy(values)).numpy()
    found = {metric: dict(zip(names, each.tolist())) for metric, each in concordance(sums).items()}
    intervals = concordance_interval(targets, values)
    return {**found, "ccc_interval": dict(zip(names, intervals))}


def table(
    ids: Sequence[str],
    names: Sequence[str],
    values: np.ndarray,
    posterior: np.ndarray,
    targets: Optional[np.ndarray] = None,
) -> List[str]:
    """A header, and one line per utterance. values, targets: [N, D], posterior: [N, K]."""
    truth = [] if targets is None else [f"label_{name}" for name in names]
    layers = [f"q_{layer + 1}" for layer in range(posterior.shape[1])]
    lines = ["\t".join(["id", *truth, *names, *layers])]
    for row, name in enumerate(ids):
        numbers = [] if targets is None else [f"{value:g}" for value in targets[row]]
        numbers += [f"{value:.6g}" for value in values[row]]
        numbers += [f"{value:.6f}" for value in posterior[row]]
        lines.append("\t".join([cell(name), *numbers]))
    return lines
