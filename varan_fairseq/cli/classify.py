"""varan-classify: the labels of a split, or of audio files.

For a split: accuracy with its 95% interval, unweighted accuracy, F1 and recall (scores.json), the
confusion matrix (confusion.csv, confusion.png), and for every utterance its probabilities and layer
posterior (utterances.tsv). A split without a label file gets utterances.tsv alone. For audio files:
those columns on the standard output.
"""

import argparse
import csv
import io
import json
import math
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

import varan_fairseq

from ..data.labels import read_labels
from ..data.manifest import read_manifest
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..inference.model import Classifier
from ..method.combine import RULES
from ..report.figures import draw_confusion
from ..report.pictures import pyplot, save_picture
from ..runtime.files import cell, printable, refuse_file, write_lines, written_whole
from ..scoring.classification import METRICS, confusion_matrix, recalls, summary
from ..scoring.rates import interval
from . import (
    add_reading_options,
    add_split_options,
    beside,
    reading_overrides,
    results_name,
    run,
    setting_name,
)

# scores.json says that the others are of the same run; without labels, utterances.tsv is all.
_FILES = ("utterances.tsv", "confusion.csv", "confusion.png", "scores.json")


class Predictions(NamedTuple):
    """names: of the N utterances. probs: [N, C]. posterior: q(l|x) [N, K]. labels: class
    indices [N], or None."""

    names: Sequence[str]
    probs: np.ndarray
    posterior: np.ndarray
    labels: Optional[np.ndarray]


def predict_split(model: Any, task: Any, subset: str, max_tokens: int):
    """(probabilities [N, C], posterior [N, K]) of a loaded split, in the manifest's order."""
    count = len(task.dataset(subset))
    probs = np.full((count, len(task.target_dictionary)), np.nan)
    posterior = np.full((count, model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        probs[rows] = model.get_normalized_probs(net_output, log_probs=False).cpu().numpy()
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    return probs, posterior


def table(found: Predictions, classes: Sequence[str]) -> List[str]:
    """A header, and a line an utterance."""
    layers = [f"q_{layer + 1}" for layer in range(found.posterior.shape[1])]
    truth = [] if found.labels is None else ["label"]
    lines = ["\t".join(["id", *truth, "predicted", *(f"p_{name}" for name in classes), *layers])]
    for row, name in enumerate(found.names):
        label = [] if found.labels is None else [classes[found.labels[row]]]
        values = [*found.probs[row], *found.posterior[row]]
        best = classes[found.probs[row].argmax()]
        lines.append("\t".join([cell(name), *label, best, *(f"{value:.6f}" for value in values)]))
    return lines


def write_results(folder: str, found: Predictions, classes: Sequence[str], about: Dict) -> Dict:
    """Writes what the module's docstring lists, all of it or nothing; returns the scores."""
    scores = {**about, "utterances": len(found.names)}
    with written_whole(folder, _FILES) as partial:
        write_lines(os.path.join(partial, "utterances.tsv"), table(found, classes))
        if found.labels is not None:
            predicted = torch.from_numpy(found.probs.argmax(1))
            counts = confusion_matrix(torch.from_numpy(found.labels), predicted, len(classes))
            confusion = counts.long().numpy()
            scores.update(summary(confusion))
            right = predicted.numpy() == found.labels
            scores["accuracy_interval"] = interval(right, np.ones(len(right)))
            scores["recall"] = {
                name: None if math.isnan(value) else 100 * value
                for name, value in zip(classes, recalls(confusion))
            }
            scores["examples"] = dict(zip(classes, confusion.sum(1).tolist()))
            counted = io.StringIO()
            writer = csv.writer(counted, lineterminator="\n")
            writer.writerow(["label", *classes])
            writer.writerows([name, *row] for name, row in zip(classes, confusion))
            write_lines(os.path.join(partial, "confusion.csv"), counted.getvalue().splitlines())
            write_lines(os.path.join(partial, "scores.json"), [json.dumps(scores, indent=2)])
            title = (
                f"{about['subset']}: accuracy {scores['accuracy']:.1f}%, unweighted "
                f"{scores['unweighted_accuracy']:.1f}%"
            )
            picture = os.path.join(partial, "confusion.png")
            save_picture(picture, lambda plt: draw_confusion(plt, confusion, classes, title))
    return scores


def classify_split(args: argparse.Namespace) -> None:
    data, subset = args.audio
    setting = setting_name(args.checkpoint, args)
    name = results_name("classify", subset, *setting)
    folder = args.out or os.path.join(beside(args.checkpoint), name)
    refuse_file(folder)
    overrides = {**reading_overrides(args, RULES), **STRICT}
    manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
    model, cfg, task = load_model(
        args.checkpoint, overrides, data, args.base, ("varan_classification",)
    )
    classes, labels = task.target_dictionary.symbols, None
    path = os.path.join(data, f"{subset}.{cfg.task.labels}")
    if os.path.isfile(path):
        pyplot()
        labels = np.array(read_labels(path, task.target_dictionary, len(manifest.entries)))
    load_audio(model, cfg, task, subset, manifest)
    cropped = task.dataset(subset).num_cropped()
    if cropped:
        print(
            f"{cropped} of {len(manifest.entries)} utterances are cropped to their middle "
            f"{cfg.task.max_sample_size} samples (task.max_sample_size of the training)"
        )
    probs, posterior = predict_split(model, task, subset, args.max_tokens)
    check_complete(subset, len(manifest.entries), probs)

    about = {
        "checkpoint": args.checkpoint,
        "subset": subset,
        "reading": reading_overrides(args, RULES) or "as trained",
    }
    names = [name for name, _ in manifest.entries]
    found = Predictions(names, probs, posterior, labels)
    scores = write_results(folder, found, classes, about)
    if labels is None:
        print(f"there is no {path}: predictions alone")
    else:
        print("  ".join(f"{name} {scores[name]:.2f}%" for name in METRICS))
        for name, recall in scores["recall"].items():
            shown = "   -  " if recall is None else f"{recall:5.1f}%"
            print(f"  recall {shown} of {scores['examples'][name]:5d}  {printable(name)}")
    print(f"{len(names)} utterances -> {folder}")


def classify_files(args: argparse.Namespace) -> None:
    if args.out:
        raise ValueError("--out is for a split: the results of audio files go to standard output")
    model = Classifier(
        *load_model(
            args.checkpoint,
            reading_overrides(args, RULES),
            base=args.base,
            models=("varan_classification",),
        )
    )
    for index, path in enumerate(args.audio):
        net_output = model.run(path)
        probs = model.model.get_normalized_probs(net_output, log_probs=False)
        posterior = net_output["log_q"].exp()
        found = Predictions([path], probs.cpu().numpy(), posterior.cpu().numpy(), None)
        header, line = table(found, model.labels.symbols)
        print(printable("\n".join([header, line] if index == 0 else [line])), flush=True)


def classify(argv: Optional[List[str]]) -> None:
    parser = argparse.ArgumentParser(
        prog="varan-classify",
        usage="varan-classify CHECKPOINT DATA SUBSET [options]\n"
        "   or: varan-classify CHECKPOINT AUDIO [AUDIO ..] [options]",
        description=__doc__.split("\n\n")[0],
    )
    parser.add_argument("checkpoint", help="of varan_classification (a pickle), or an adapter")
    parser.add_argument(
        "audio", nargs="+", help="folder with the manifests and a manifest's name, or audio files"
    )
    parser.add_argument("--out", help="folder for the results; default: beside the checkpoint")
    add_reading_options(parser, RULES)
    add_split_options(parser)
    args = parser.parse_args(argv)
    if not os.path.isdir(args.audio[0]):
        classify_files(args)
    elif len(args.audio) == 2:
        classify_split(args)
    else:
        raise ValueError(
            f"{args.audio[0]} is a folder: give a manifest's name after it, as test, and no more"
        )


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-classify", classify, argv)


if __name__ == "__main__":
    sys.exit(main())
