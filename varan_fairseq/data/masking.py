"""Lengths of which fairseq's masking may leave nothing."""

from typing import Any, List

import numpy as np
from fairseq.data.data_utils import compute_mask_indices, numpy_seed

_DRAWS = 200


def may_mask_all(frames: np.ndarray, cfg: Any) -> List[int]:
    """Those of the numbers of frames [N] whose masks may cover all of them, by drawing as fairseq
    does; what training draws stays as it was. cfg: with fairseq's keys of masking."""
    sizes = [size for size in np.unique(frames) if 0 < size <= 4 * cfg.mask_length]
    with numpy_seed(1):
        return [size for size in sizes if _masks_all(int(size), cfg)]


def _masks_all(frames: int, cfg: Any) -> bool:
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
