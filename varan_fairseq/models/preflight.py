"""What of a training run would stop or spoil it later, beside options and labels."""

import logging
import os
from typing import Any, List, NamedTuple, Optional, Tuple

import torch
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from omegaconf import open_dict

from ..data.labels import first_difference
from ..data.manifest import Manifest
from ..data.short import check_lengths, check_masking
from ..runtime.pickles import peek, reason, state_labels
from ..runtime.processes import on_first_rank
from ..upstream import Encoder
from ..upstream.checkpoint import check_finite

logger = logging.getLogger(__name__)


class CheckedSplit(NamedTuple):
    """path: of the manifest. min_sample_size: shorter files are left out by the task."""

    path: str
    manifest: Manifest
    min_sample_size: Optional[int]


Checked = List[CheckedSplit]


def check_short(cfg: Any, encoder: Encoder, checked: Checked) -> None:
    """Of splits, the first of which trains."""
    for split in checked:
        check_lengths(*split[:2], encoder.receptive_field, split.min_sample_size)
    if checked and encoder.kind.masks_spans:
        path, manifest, least = checked[0]
        samples = torch.from_numpy(manifest.samples)
        check_masking(path, manifest, encoder.frames(samples).tolist(), cfg, least)


def check_precision(whole: Any) -> None:
    """whole: fairseq's configuration. Raises ValueError for what this machine cannot do."""
    if whole.common.fp16 and (whole.common.cpu or not torch.cuda.is_available()):
        raise ValueError(
            "common.fp16=true needs a GPU, and there is none here or common.cpu=true: set "
            "common.fp16=false"
        )


def check_resumed(whole: Any, task: Any) -> None:
    """Checks the checkpoint that a run goes on from; says and sees to it if there is nothing
    left to train. whole: fairseq's configuration. Raises ValueError."""
    found = on_first_rank(lambda: _gone_on_from(whole.checkpoint))
    if found is None:
        return
    path, resumed, symbols, updates = found
    ours = task.target_dictionary.symbols if task.target_dictionary is not None else None
    refuse_other_labels(path, symbols, ours)
    wanted = whole.optimization.max_update
    if resumed and not whole.checkpoint.reset_optimizer and 0 < wanted <= updates:
        logger.warning(
            "%s has %d updates, optimization.max_update=%d: this run is finished and trains no "
            "more. Raise optimization.max_update, or give another checkpoint.save_dir",
            path,
            updates,
            wanted,
        )
        with open_dict(whole):
            whole.optimization.max_epoch = -1  # fairseq's loop ends before its first epoch


def keep_encoder(whole: Any, cfg: Any, task: Any) -> None:
    """Puts the encoder's configuration, which cfg holds, in the run's checkpoints, where the
    task does not: `audio_finetuning` does, `hubert_pretraining` does not."""
    if isinstance(task, AudioPretrainingTask):
        return
    with open_dict(whole):
        whole.model.w2v_args = cfg.w2v_args


def refuse_other_labels(path: str, theirs: Optional[list], ours: Optional[list]) -> None:
    """Raises ValueError if a checkpoint's labels are known and are not those at hand, in the
    same order."""
    if theirs is None or ours is None or theirs == ours:
        return
    at = first_difference(theirs, ours)
    if at is None:
        found = f"{len(theirs)} labels there, {len(ours)} here"
    else:
        found = f"label {at} is {theirs[at]!r} there, {ours[at]!r} here"
    raise ValueError(
        f"{path} was trained with another dictionary: {found}. Use the dictionary file it was "
        "trained with, or begin anew in another checkpoint.save_dir"
    )


def _gone_on_from(options: Any) -> Optional[Tuple[str, bool, Optional[list], int]]:
    """(file that fairseq will load, whether it resumes that run, labels, updates), by fairseq's
    options of checkpoints; None if there is no file. Raises ValueError for one that cannot be
    used."""
    path, resumed = options.restore_file, True
    if path == "checkpoint_last.pt":
        path = os.path.join(options.save_dir, f"checkpoint_last{options.checkpoint_suffix}.pt")
        if not os.path.isfile(path) and options.finetune_from_model:
            path, resumed = options.finetune_from_model, False
    if not os.path.isfile(path):
        return None
    try:
        state = peek(path)
        labels = state_labels(state)
        updates = (state.get("optimizer_history") or [{}])[-1].get("num_updates", 0)
        weights = state["model"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be gone on from: {reason(error)}") from None
    check_finite(weights, path)
    return path, resumed, None if labels is None else labels.symbols, updates
