"""Which layers each utterance of a split used, what fewer of them would do, or how they voted on one
utterance, as a table and a picture: what `varan-layers` does."""

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from ..data.labels import read_labels
from ..data.manifest import Manifest, read_manifest, split_paths
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import LABELLERS, load_model
from ..finetuned.outputs import STRICT, check_complete, load_audio, outputs
from ..finetuned.results import beside
from ..runtime.files import cell, printable, refuse_output, write_lines
from .curve import Depth, classifier_curve, draw_curve, recognizer_curve, table
from .figures import draw_posterior, draw_votes, entropy
from .pictures import MARK, pyplot, save_picture
from .votes import LayerVotes, layer_votes, most_corrected


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


@dataclass(frozen=True)
class Vote:
    """Of the utterance with this name. reference: what was said."""

    prefix: str
    name: str
    votes: LayerVotes
    reference: str


# What the files of each kind begin with.
HEADS = {"layers": b"entropy_bits\n", "curve": b"multiply_adds", "vote": b"layer\tq\treads"}

# How the layers are read for it, whatever the checkpoint says.
_READING: Dict[str, Dict[str, Any]] = {
    "curve": {"decode_layer": 0},
    "vote": {"decode_layer": 0, "combine": "vote"},
}


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
        overrides = {**STRICT, **_READING.get(kind, {})}
        self.model, self.cfg, self.task = load_model(checkpoint, overrides, data, **options)
        if self.model.cfg.aggregation != "varan":
            raise ValueError(
                f"{checkpoint} reads its layers by {self.model.cfg.aggregation}, which has no "
                "posterior: expected a model trained with model.aggregation=varan"
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
    split = _Split("curve", checkpoint, data, subset, out, base=base, models=LABELLERS)
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


def write_vote(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    utterance: Optional[str] = None,
    out: Optional[str] = None,
    base: Optional[str] = None,
    max_tokens: int = 4000000,
) -> Vote:
    """Writes what the layers read of one utterance, and how they voted on each edit, as PREFIX.tsv
    and PREFIX.png. utterance: its path in the manifest; default: the one that the vote
    corrected most. Else as `write_layers`."""
    split = _Split("vote", checkpoint, data, subset, out, base=base)
    model, task = split.model, split.task
    names = [name for name, _ in split.manifest.entries]
    if utterance is not None and utterance not in names:
        raise ValueError(
            f"--utterance {printable(utterance)}: {subset}.tsv has no such path; its first is "
            f"{printable(names[0])}"
        )
    transcribed = load_transcribed(model, split.cfg, task, subset)
    if utterance is None:
        row = most_corrected(model, task, subset, transcribed.references.units, max_tokens)
    else:
        row = names.index(utterance)
    votes = layer_votes(model, task, subset, row, transcribed.post_process)
    if votes is None:
        raise ValueError(
            f"{names[row]}: the layers have too few labels in common to vote on; give another "
            "--utterance, or train longer"
        )
    titles = [f"{edit.before}[{edit.title}]{edit.after}" for edit in votes.edits]
    lines = ["\t".join(["layer", "q", "reads", *map(cell, titles)])]
    for layer, marked in enumerate(votes.layers):
        values = [f"{edit.votes[layer]:.4f}" for edit in votes.edits]
        read = cell("".join(part for part, _ in marked))
        lines.append("\t".join([str(layer + 1), f"{votes.weights[layer]:.6f}", read, *values]))
    gains = [f"{edit.votes.sum():.4f} {'in' if edit.carried else 'out'}" for edit in votes.edits]
    lines.append("\t".join(["vote", "", cell(votes.result), *gains]))
    write_lines(f"{split.prefix}.tsv", lines)
    reference = transcribed.references.text[row]
    title = f"{names[row]}: what the layers read, and what each counts for an edit (nats)"
    save_picture(f"{split.prefix}.png", lambda plt: draw_votes(plt, votes, reference, title))
    return Vote(split.prefix, names[row], votes, reference)
