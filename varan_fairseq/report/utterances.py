"""A model of one target per utterance, on a split or on audio files: what classifiers and regressors
share."""

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np

from ..data.manifest import read_manifest
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..finetuned.results import beside, reading_overrides, results_name, setting_name
from ..runtime.files import refuse_file, refuse_foreign
from .pictures import pyplot


@dataclass(frozen=True)
class Predictions:
    """names: of the N utterances. values: probabilities [N, C], or numbers [N, D]. posterior: q(l|x)
    [N, K]. labels: class indices [N], or numbers [N, D], or None."""

    names: Sequence[str]
    values: np.ndarray
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


@dataclass(frozen=True)
class Kind:
    """Of a model.

    Attributes:
        word: in the names of results.
        model: its name in fairseq.
        rules: that combine its layers.
        files: of results; the last one says that the others are of the same run.
        read: (path, dictionary, count) -> labels.
        say: (model, its output for a batch) -> values [B, ..].
        table: (predictions, names of the outputs) -> a header, and one line per utterance.
        write: (folder, predictions, names of the outputs, what is known) -> content of scores.json.
        interface: for Python, (model, cfg, task).
    """

    word: str
    model: str
    rules: Sequence[str]
    files: Sequence[str]
    read: Callable[[str, Any, int], Any]
    say: Callable[[Any, Dict[str, Any]], Any]
    table: Callable[[Predictions, Sequence[str]], List[str]]
    write: Callable[[str, Predictions, Sequence[str], Dict[str, Any]], Dict[str, Any]]
    interface: Callable[..., Any]


def score_split(
    kind: Kind,
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
    """Runs a model over a split, scores it if it has labels, and writes it all.

    Args:
        kind: of the model.
        checkpoint: a pickle, or the folder of an adapter.
        data, subset: folder with the manifests, and the name of one.
        base: the pre-trained checkpoint of an adapter.
        out: folder for the results; default: beside the checkpoint.
        combine, layer: read the layers otherwise than trained.
        max_tokens: samples a batch.

    Raises:
        ValueError, FileNotFoundError: before anything is written.
    """
    name = results_name(kind.word, subset, *setting_name(checkpoint, combine, layer))
    folder = out or os.path.join(beside(checkpoint), name)
    refuse_file(folder)
    if out:
        refuse_foreign(folder, kind.files)
    reading = reading_overrides(combine, layer, kind.rules)
    manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
    model, cfg, task = load_model(checkpoint, {**reading, **STRICT}, data, base, (kind.model,))
    count, outputs_of = len(manifest.entries), task.target_dictionary
    path, labels = os.path.join(data, f"{subset}.{cfg.task.labels}"), None
    if os.path.isfile(path):
        pyplot()  # before the work whose result it draws
        labels = np.array(kind.read(path, outputs_of, count))
    load_audio(model, cfg, task, subset, manifest)
    values = np.full((count, len(outputs_of)), np.nan)
    posterior = np.full((count, model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        values[rows] = kind.say(model, net_output).cpu().numpy()
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    check_complete(subset, count, values)
    predictions = Predictions([name for name, _ in manifest.entries], values, posterior, labels)
    about = {"checkpoint": checkpoint, "subset": subset, "reading": reading or "as trained"}
    scores = kind.write(folder, predictions, outputs_of.symbols, about)
    cropped = task.dataset(subset).num_cropped()
    return Scores(folder, scores, path, cropped, cfg.task.max_sample_size)


def read_files(
    kind: Kind,
    checkpoint: str,
    paths: Sequence[str],
    *,
    base: Optional[str] = None,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
) -> Iterator[Union[str, ValueError]]:
    """Lines of `kind.table` for audio files, one by one; the header first; an error for a file that
    cannot be read. Options: see `score_split`."""
    overrides = reading_overrides(combine, layer, kind.rules)
    loaded = load_model(checkpoint, overrides, base=base, models=(kind.model,))
    model = kind.interface(*loaded)
    first = 0  # line of a table: the header, until it was given
    for path in paths:
        try:
            net_output = model.run(path)
        except ValueError as error:
            yield error
            continue
        values = kind.say(model.model, net_output).cpu().numpy()
        posterior = net_output["log_q"].exp().cpu().numpy()
        predictions = Predictions([path], values, posterior, None)
        yield from kind.table(predictions, model.labels.symbols)[first:]
        first = 1
