"""Which layers each utterance of a split used, or what fewer of them would do, as a table and a
picture: what `varan-layers` does."""

import os
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

import numpy as np

from ..data.labels import read_labels
from ..data.manifest import Manifest, read_manifest, split_paths
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..finetuned.results import beside
from ..runtime.files import cell, refuse_output, write_lines
from .curve import Depth, classifier_curve, draw_curve, recognizer_curve, table
from .figures import draw_posterior, entropy
from .pictures import MARK, pyplot, save_picture


@dataclass(frozen=True)
class LayerUse:
    """posterior: q(l|x) [N, L]. labels: class indices [N], or None. classes: their names."""

    prefix: str
    posterior: np.ndarray
    labels: Optional[np.ndarray]
    classes: Sequence[str]


@dataclass(frozen=True)
class Curve:
    """measure: WER or accuracy. depths: of the lowest 1, 2, .. L layers."""

    prefix: str
    measure: str
    depths: List[Depth]


# What the files of each kind begin with.
HEADS = {"layers": b"entropy_bits\n", "curve": b"multiply_adds"}


class _Split:
    """A model of `varan` and the split it is asked about, checked before any work."""

    def __init__(
        self, kind: str, checkpoint: str, data: str, subset: str, out: Optional[str], **options: Any
    ):
        pyplot()
        self.prefix = out or os.path.join(beside(checkpoint), f"{kind}-{subset}")
        files = split_paths(data, subset)
        inputs = [checkpoint, options.get("base"), *files]
        for ending, ours in (("tsv", HEADS[kind]), ("png", MARK)):
            target = f"{self.prefix}.{ending}"
            refuse_output(target, ours if out else b"", *inputs)
        self.data, self.subset = data, subset
        self.manifest: Manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
        overrides = {**STRICT, **({"decode_layer": 0} if kind == "curve" else {})}
        self.model, self.cfg, self.task = load_model(checkpoint, overrides, data, **options)
        if self.model.cfg.aggregation != "varan":
            raise ValueError(
                f"{checkpoint} reads its layers by {self.model.cfg.aggregation}, which has no "
                "posterior: wanted a model trained with model.aggregation=varan"
            )

    def labels(self) -> np.ndarray:
        if self.cfg.task._name != "utterance_classification":
            raise ValueError("--by-class is for classifiers, whose utterances have one label each")
        path = os.path.join(self.data, f"{self.subset}.{self.cfg.task.labels}")
        count = len(self.manifest.entries)
        return np.array(read_labels(path, self.task.target_dictionary, count))


def split_posterior(model: Any, task: Any, subset: str, max_tokens: int) -> np.ndarray:
    """q(l|x) of every utterance of a loaded split, in the manifest's order: [N, L]."""
    posterior = np.full((len(task.dataset(subset)), model.num_predictions), np.nan)
    for rows, net_output in outputs(model, task, subset, max_tokens):
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    return posterior


def write_layers(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    by_class: bool = False,
    out: Optional[str] = None,
    base: Optional[str] = None,
    max_tokens: int = 4000000,
) -> LayerUse:
    """Writes q(l|x) of a split as PREFIX.tsv and PREFIX.png. out: the prefix; default: beside the
    checkpoint. Raises ValueError or FileNotFoundError, before anything is written."""
    split = _Split("layers", checkpoint, data, subset, out, base=base)
    model, manifest = split.model, split.manifest
    classes = split.task.target_dictionary.symbols
    labels = split.labels() if by_class else None
    load_audio(model, split.cfg, split.task, subset, manifest)
    posterior = split_posterior(model, split.task, subset, max_tokens)
    check_complete(subset, len(manifest.entries), posterior)

    label_column = [] if labels is None else ["label"]
    layer_columns = [f"q_{layer + 1}" for layer in range(posterior.shape[1])]
    lines = ["\t".join(["id", *label_column, *layer_columns, "entropy_bits"])]
    for row, (name, _) in enumerate(manifest.entries):
        label = [] if labels is None else [classes[labels[row]]]
        values = [*posterior[row], entropy(posterior[row : row + 1])[0]]
        lines.append("\t".join([cell(name), *label, *(f"{value:.6f}" for value in values)]))
    write_lines(f"{split.prefix}.tsv", lines)
    title = f"{subset}: {len(manifest.entries)} utterances, {posterior.shape[1]} layers"
    prior = model.prior.probs.cpu().numpy()
    save_picture(
        f"{split.prefix}.png",
        lambda plt: draw_posterior(plt, posterior, prior, title, labels, classes),
    )
    return LayerUse(split.prefix, posterior, labels, classes)


def write_curve(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    out: Optional[str] = None,
    base: Optional[str] = None,
    max_tokens: int = 4000000,
) -> Curve:
    """Writes error rate and cost of every depth as PREFIX.tsv and PREFIX.png; see
    `write_layers`."""
    split = _Split("curve", checkpoint, data, subset, out, base=base)
    model, task = split.model, split.task
    if split.cfg.model._name == "varan_ctc":
        measure = "WER"
        transcribed = load_transcribed(model, split.cfg, task, subset)
        depths = recognizer_curve(model, task, subset, transcribed, max_tokens)
    else:
        measure = "accuracy"
        classified = load_classified(model, split.cfg, task, subset)
        depths = classifier_curve(model, task, subset, classified, max_tokens)
    write_lines(f"{split.prefix}.tsv", table(measure, depths))
    title = f"{subset}: {len(split.manifest.entries)} utterances"
    save_picture(f"{split.prefix}.png", lambda plt: draw_curve(plt, measure, depths, title))
    return Curve(split.prefix, measure, depths)
