"""varan-layers: which layers did each utterance use?

Writes q(l|x) of every utterance of a split as TSV (id, q_1 .. q_L, entropy in bits) and a
picture: the mean posterior with its spread against the prior, and a heat map. With --by-class
the label of each utterance too, and everything by class.

With --curve instead: what would the lowest 1, 2, .. layers do? WER or accuracy of the model cut
there (varan-export prune), of that layer alone, time and multiply-adds, as TSV and picture.
"""

import argparse
import os
import sys
from typing import Any, List, Optional

import numpy as np

import varan_fairseq

from ..data.labels import read_labels
from ..data.manifest import read_manifest
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..report.curve import classifier_curve, draw_curve, recognizer_curve, table
from ..report.figures import draw_posterior, entropy
from ..report.pictures import pyplot, save_picture
from ..runtime.files import cell, printable, refuse_no_folder, write_lines
from . import add_split_options, beside, run


def split_posterior(model: Any, task: Any, subset: str, max_tokens: int) -> np.ndarray:
    """q(l|x) of every utterance of a loaded split, in the manifest's order: [N, L]."""
    posterior = np.full((len(task.dataset(subset)), model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    return posterior


def _labels(cfg: Any, task: Any, data: str, subset: str, count: int) -> np.ndarray:
    if cfg.task._name != "utterance_classification":
        raise ValueError("--by-class is for classifiers, whose utterances have one label each")
    path = os.path.join(data, f"{subset}.{cfg.task.labels}")
    return np.array(read_labels(path, task.target_dictionary, count))


def _curve(args: argparse.Namespace, prefix: str, model: Any, cfg: Any, task: Any) -> None:
    if cfg.model._name == "varan_ctc":
        measure, split = "WER", load_transcribed(model, cfg, task, args.subset)
        depths = recognizer_curve(model, task, args.subset, split, args.max_tokens)
    else:
        measure, split = "accuracy", load_classified(model, cfg, task, args.subset)
        depths = classifier_curve(model, task, args.subset, split, args.max_tokens)
    write_lines(f"{prefix}.tsv", table(measure, depths))
    title = f"{args.subset}: {len(split.manifest.entries)} utterances"
    save_picture(f"{prefix}.png", lambda plt: draw_curve(plt, measure, depths, title))
    print(f"layers  {measure:>8}  this alone   time  multiply-adds")
    for each in depths:
        print(
            f"{each.layers:6d}  {each.rate:7.2f}%  {each.alone:9.2f}%  {each.time:5.2f}  "
            f"{each.multiply_adds:13.2f}"
        )
    print(f"{prefix}.tsv, {prefix}.png")


def report(argv: Optional[List[str]]) -> None:
    parser = argparse.ArgumentParser(prog="varan-layers", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", help="a fine-tuned checkpoint (a pickle), or an adapter")
    parser.add_argument("data", help="folder with the manifests")
    parser.add_argument("subset", help="name of the manifest, as test")
    parser.add_argument("--by-class", action="store_true", help="group a classifier's utterances")
    parser.add_argument("--curve", action="store_true", help="error rate and cost of every depth")
    parser.add_argument("--out", help="prefix of the files; default: beside the checkpoint")
    add_split_options(parser)
    args = parser.parse_args(argv)
    if args.curve and args.by_class:
        raise ValueError("--curve and --by-class: give one of the two")

    pyplot()
    prefix = args.out or os.path.join(
        beside(args.checkpoint), f"{'curve' if args.curve else 'layers'}-{args.subset}"
    )
    refuse_no_folder(f"{prefix}.tsv")
    manifest = read_manifest(os.path.join(args.data, f"{args.subset}.tsv"))
    count = len(manifest.entries)
    overrides = {**STRICT, **({"decode_layer": 0} if args.curve else {})}
    model, cfg, task = load_model(args.checkpoint, overrides, args.data, args.base)
    if model.cfg.aggregation != "varan":
        raise ValueError(
            f"{args.checkpoint} reads its layers by {model.cfg.aggregation}, which has no "
            "posterior: wanted a model trained with model.aggregation=varan"
        )
    if args.curve:
        _curve(args, prefix, model, cfg, task)
        return
    labels, classes = None, task.target_dictionary.symbols
    if args.by_class:
        labels = _labels(cfg, task, args.data, args.subset, count)
    load_audio(model, cfg, task, args.subset, manifest)
    posterior = split_posterior(model, task, args.subset, args.max_tokens)
    check_complete(args.subset, count, posterior)

    label_column = [] if labels is None else ["label"]
    layer_columns = [f"q_{layer + 1}" for layer in range(posterior.shape[1])]
    lines = ["\t".join(["id", *label_column, *layer_columns, "entropy_bits"])]
    for row, (name, _) in enumerate(manifest.entries):
        label = [] if labels is None else [classes[labels[row]]]
        values = [*posterior[row], entropy(posterior[row : row + 1])[0]]
        lines.append("\t".join([cell(name), *label, *(f"{value:.6f}" for value in values)]))
    write_lines(f"{prefix}.tsv", lines)
    title = f"{args.subset}: {count} utterances, {posterior.shape[1]} layers"
    prior = model.prior.probs.cpu().numpy()
    save_picture(
        f"{prefix}.png", lambda plt: draw_posterior(plt, posterior, prior, title, labels, classes)
    )

    print(f"mean q(l|x), layer 1 to {posterior.shape[1]}: {_row(posterior)}")
    for index, name in enumerate(classes if args.by_class else []):
        if (labels == index).any():
            print(f"  {printable(name)}: {_row(posterior[labels == index])}")
    uniform = np.log2(posterior.shape[1])
    print(f"mean entropy {entropy(posterior).mean():.3f} bits (uniform: {uniform:.3f})")
    print(f"{prefix}.tsv {prefix}.png")


def _row(posterior: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in posterior.mean(0))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-layers", report, argv)


if __name__ == "__main__":
    sys.exit(main())
