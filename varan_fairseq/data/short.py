"""Utterances that are too short: for one frame of an encoder, or for its masking."""

from typing import Any, Optional, Sequence

import numpy as np
from fairseq.data.data_utils import compute_mask_indices, numpy_seed

from .manifest import Manifest

_DRAWS = 200


def check_lengths(
    path: str, manifest: Manifest, needed: int, min_sample_size: Optional[int]
) -> None:
    """Raises ValueError for files that are too short for one frame.

    path: of the manifest. needed: samples of an encoder's first frame. min_sample_size:
    shorter files are left out by the task.
    """
    least = min_sample_size or 0
    short = [row for row, (_, samples) in enumerate(manifest.entries) if least <= samples < needed]
    if short:
        name, samples = manifest.entries[short[0]]
        raise ValueError(
            f"{path}, line {short[0] + 2}: {name} has {samples} samples, the encoder needs {needed} "
            f"for one frame ({len(short)} such files): remove them, or set task.min_sample_size="
            f"{needed} to leave them out"
        )


def check_masking(
    path: str, manifest: Manifest, frames: Sequence[int], cfg: Any, min_sample_size: Optional[int]
) -> None:
    """Raises ValueError for files of which masking may leave nothing, where fairseq stops.

    frames: of each entry. cfg: of the model, with fairseq's keys of masking. Others: see
    `check_lengths`.
    """
    if not cfg.apply_mask or not cfg.mask_prob:
        return
    least = min_sample_size or 0
    counts = np.array(frames)
    counts[manifest.samples < least] = 0
    sizes = [size for size in np.unique(counts) if 0 < size <= 4 * cfg.mask_length]
    with numpy_seed(1):  # and what training draws stays as it was
        bad = [size for size in sizes if _may_mask_all(int(size), cfg)]
    rows = np.flatnonzero(np.isin(counts, bad))
    if len(rows):
        name, samples = manifest.entries[rows[0]]
        enough = max(manifest.entries[row][1] for row in rows) + 1
        raise ValueError(
            f"{path}, line {rows[0] + 2}: model.mask_prob={cfg.mask_prob:g} model.mask_length="
            f"{cfg.mask_length} may mask all {frames[rows[0]]} frames of {name} ({samples} samples), "
            f"and training would stop there ({len(rows)} such files): lower model.mask_length, "
            f"set model.apply_mask=false, or task.min_sample_size={enough} to leave them out"
        )


def _may_mask_all(frames: int, cfg: Any) -> bool:
    """By drawing as fairseq does."""
    for _ in range(_DRAWS):
        try:
            mask = compute_mask_indices(
                (1, frames),
                None,
                cfg.mask_prob,
                cfg.mask_length,
                cfg.mask_selection,
                cfg.mask_other,
                min_masks=2,
                no_overlap=cfg.no_mask_overlap,
                min_space=cfg.mask_min_space,
            )
        except ValueError:  # as fairseq main says it, or there is no place for a span
            return True
        except AttributeError:  # fairseq's own, of kinds of masking that no numpy of today has
            return False
        if mask.all():
            return True
    return False
