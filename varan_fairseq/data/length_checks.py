"""Checks of how long audio is: too short for the encoder, its labels or its masking, too long for a
batch."""

from typing import Any, Iterator, Optional

import numpy as np

from .findings import ERROR, WARNING, Finding, Frames, Split
from .masking import may_mask_all


def length_findings(
    split: Split, frames: Frames, min_sample_size: Optional[int] = None
) -> Iterator[Finding]:
    """Audio that is too short for one frame of an encoder, or for CTC of its labels.
    min_sample_size: shorter files are left out by the task."""
    sizes, needed = split.manifest.samples, frames.receptive_field
    kept = sizes >= (min_sample_size or 0)
    rows = np.flatnonzero(kept & (sizes < needed))
    if len(rows):
        name, samples = split.manifest.entries[rows[0]]
        what = (
            f"{name} has {samples} samples, the encoder needs {needed} for one frame "
            f"({len(rows)} such files)"
        )
        wanted = f"remove them, or set task.min_sample_size={needed} to leave them out"
        yield split.finding(ERROR, "short", what, wanted, rows=rows, first=True)
    if split.lines is None:
        return
    labels = [line.split() for line in split.lines]
    # CTC needs a frame per label, and one more between two equal neighbours
    repeats = [sum(a == b for a, b in zip(row_labels, row_labels[1:])) for row_labels in labels]
    longest = np.array([len(row_labels) for row_labels in labels]) + repeats
    rows = np.flatnonzero(kept & (sizes >= needed) & (longest > frames.of_samples(sizes)))
    if len(rows):
        what = f"{len(rows)} files have more labels than frames"
        wanted = "CTC cannot learn them (criterion.zero_infinity=true)"
        yield split.finding(WARNING, "infeasible", what, wanted, file=split.files.labels, rows=rows)


def batch_findings(
    split: Split, cfg: Any, key: str, max_tokens: Optional[int]
) -> Iterator[Finding]:
    """Audio that is longer than a batch may be. cfg: of the task. key, max_tokens: the option."""
    if split.manifest is None or not max_tokens:
        return
    sizes = split.manifest.samples
    kept = sizes >= (getattr(cfg, "min_sample_size", None) or 0)
    most = getattr(
        cfg, "max_keep_size", None
    )  # of hubert_pretraining, which leaves out longer ones
    if most:
        kept &= sizes <= most
    if cfg._name.startswith("utterance_") and cfg.max_sample_size:
        sizes = sizes.clip(max=cfg.max_sample_size)
    rows = np.flatnonzero(kept & (sizes > max_tokens))
    if len(rows):
        name, samples = split.manifest.entries[rows[0]]
        what = f"{name} has {samples} samples, {key} is {max_tokens} ({len(rows)} such files)"
        wanted = f"fairseq stops there: remove them, or set {key}={int(sizes.max())}"
        yield split.finding(ERROR, "long", what, wanted, rows=rows, first=True)


def mask_findings(
    split: Split, frames: Frames, cfg: Any, min_sample_size: Optional[int] = None
) -> Iterator[Finding]:
    """Files of which masking may leave nothing, where fairseq stops. cfg: of the model, with
    fairseq's keys of masking. min_sample_size: see `length_findings`."""
    if not cfg.apply_mask or not cfg.mask_prob:
        return
    counts = np.array(frames.of_samples(split.manifest.samples))
    counts[split.manifest.samples < (min_sample_size or 0)] = 0
    rows = np.flatnonzero(np.isin(counts, may_mask_all(counts, cfg)))
    if len(rows):
        name, samples = split.manifest.entries[rows[0]]
        enough = max(split.manifest.entries[row][1] for row in rows) + 1
        what = (
            f"model.mask_prob={cfg.mask_prob:g} model.mask_length={cfg.mask_length} may mask all "
            f"{counts[rows[0]]} frames of {name} ({samples} samples), and training would stop there "
            f"({len(rows)} such files)"
        )
        wanted = (
            "lower model.mask_length, set model.apply_mask=false, or "
            f"task.min_sample_size={enough} to leave them out"
        )
        yield split.finding(ERROR, "masking", what, wanted, rows=rows, first=True)
