"""What would stop or spoil a training run later, found before it begins, and what is written to its
configuration."""

import logging
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from omegaconf import open_dict

from ..adapters.file import Adapter, read_adapter
from ..adapters.metadata import TASKS, shape_options
from ..data.checks import batch_findings, length_findings, mask_findings
from ..data.findings import Frames, Split, enforce
from ..data.labels import first_difference
from ..runtime.fairseq_compat import whole_config
from ..runtime.pickles import peek, reason, state_labels
from ..runtime.processes import on_first_rank
from ..upstream import Encoder
from ..upstream.checkpoint import check_finite
from .finetune import check_groups, finetune_mode
from .options import check_options

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """What was found before building. whole: the run's configuration; None outside of a run.
    splits: of the data, read. adapter: to start from. finished: whether nothing is left to
    train."""

    whole: Optional[Any]
    splits: Sequence[Split]
    adapter: Optional[Adapter]
    finished: bool


def check_before(
    cfg: Any, task: Any, rules: Sequence[str], check_data: Callable[..., Sequence[Split]]
) -> Checked:
    """Checks options, precision, adapter, data and the checkpoint to resume, and changes nothing.

    Args:
        cfg: of the model. task: fairseq's.
        rules: that `cfg.combine` may be.
        check_data: (cfg, task, names of the splits, the first of which trains) -> splits; every
            process calls it.

    Raises:
        ValueError, FileNotFoundError: one line that names what is wrong.
    """
    check_options(cfg, rules)
    whole = whole_config(cfg)
    if whole is not None:
        check_precision(whole)
        check_schedule(whole, cfg)
    adapter = read_adapter(cfg.adapter) if cfg.adapter else None
    names = [cfg.train_subset]
    if whole is None or not whole.dataset.disable_validation:
        names += cfg.valid_subset.split(",")
    splits = check_data(cfg, task, names)
    if whole is not None:
        on_first_rank(lambda: check_batches(whole, task, splits))
    finished = whole is not None and check_resumed(whole, cfg, task)
    return Checked(whole, splits, adapter, finished)


def check_model(model: Any, checked: Checked, task: Any) -> None:
    """Checks what only the model can tell: audio too short for it, groups of its optimizer."""
    least = getattr(task.cfg, "min_sample_size", None)
    on_first_rank(lambda: check_lengths(model.cfg, model.w2v_encoder, checked.splits, least))
    if checked.whole is not None:
        check_groups(checked.whole, model)


def write_to_run(checked: Checked, cfg: Any, task: Any) -> None:
    """Writes to the run's configuration: the encoder's, so that checkpoints hold it; and that a
    finished run ends before its first epoch."""
    if checked.whole is None:
        return
    with open_dict(checked.whole):
        if not isinstance(task, AudioPretrainingTask):  # which does it by itself
            checked.whole.model.w2v_args = cfg.w2v_args
        if checked.finished:
            checked.whole.optimization.max_epoch = -1


def check_lengths(
    cfg: Any, encoder: Encoder, splits: Sequence[Split], least: Optional[int]
) -> None:
    """Raises ValueError for audio that is too short for an encoder, or, in the first of the splits,
    which trains, for its masking. least: task.min_sample_size."""
    frames = encoder_frames(encoder)
    for split in splits:
        enforce(length_findings(split, frames, least))
    if splits and encoder.spec.masks_spans:
        enforce(mask_findings(splits[0], frames, cfg, least))


def encoder_frames(encoder: Encoder) -> Frames:
    """How many frames an encoder makes of audio, for checks."""

    def count(samples: np.ndarray) -> np.ndarray:
        return encoder.frames(torch.from_numpy(samples)).numpy()

    return Frames(encoder.receptive_field, count)


def check_precision(whole: Any) -> None:
    """whole: fairseq's configuration. Raises ValueError for what this machine cannot do."""
    if whole.common.fp16 and (whole.common.cpu or not torch.cuda.is_available()):
        raise ValueError(
            "common.fp16=true needs a GPU, and there is none here or common.cpu=true: set "
            "common.fp16=false"
        )


def check_schedule(whole: Any, cfg: Any) -> None:
    """whole: fairseq's configuration. cfg: of the model. Raises ValueError for steps that fairseq
    stops at by a bare assert, and for an encoder that is meant to train and never would."""
    updates, scheduler = whole.optimization.max_update, whole.get("lr_scheduler") or {}
    if scheduler.get("_name") == "tri_stage":
        steps = ("warmup_steps", "hold_steps", "decay_steps")
        ratio = scheduler.get("phase_ratio")
        if isinstance(ratio, str):
            ratio = [float(share) for share in ratio.strip("()[] ").split(",")]
        if ratio is not None and not updates > 0:
            raise ValueError(
                f"optimization.max_update={updates}: lr_scheduler.phase_ratio are shares of it. Set "
                f"optimization.max_update, or give {', '.join(f'lr_scheduler.{s}' for s in steps)} "
                "and lr_scheduler.phase_ratio=null"
            )
        if ratio is not None and sum(ratio) != 1:
            raise ValueError(
                f"lr_scheduler.phase_ratio={list(ratio)} adds up to {sum(ratio)!r}, wanted 1 exactly"
            )
        if ratio is not None and not int(updates * ratio[2]):
            raise ValueError(
                f"optimization.max_update={updates}: lr_scheduler.phase_ratio={list(ratio)} leaves no "
                "update for the last phase: raise max_update"
            )
        if ratio is None and not sum(scheduler.get(key, 0) for key in steps):
            raise ValueError(
                f"lr_scheduler.phase_ratio and {', '.join(f'lr_scheduler.{s}' for s in steps)} are "
                "not set: give the ratio, or steps"
            )
    frozen = cfg.get("freeze_finetune_updates", 0)
    mode = finetune_mode(cfg)
    if mode == "probe" or not 0 < updates <= frozen:
        return
    what = (
        f"model.freeze_finetune_updates={frozen} is not below optimization.max_update={updates}: "
        "nothing of the encoder would ever train"
    )
    if mode == "lora":
        raise ValueError(f"{what}, and no adapter: lower it, as to 0")
    logger.warning("%s. Lower it, or say so by model.finetune=probe", what)


def check_batches(whole: Any, task: Any, splits: Sequence[Split]) -> None:
    """Raises ValueError for audio that no batch may hold, where fairseq would stop."""
    for split in splits:
        key = "max_tokens" if split is splits[0] else "max_tokens_valid"
        enforce(batch_findings(split, task.cfg, f"dataset.{key}", whole.dataset[key]))


def check_resumed(whole: Any, cfg: Any, task: Any) -> bool:
    """Checks the checkpoint that a run resumes from; returns whether training is already complete,
    which is logged. whole: fairseq's configuration. cfg: of the model. Raises ValueError."""
    resumed = on_first_rank(lambda: _resumed_from(whole.checkpoint))
    if resumed is None:
        return False
    ours = task.target_dictionary.symbols if task.target_dictionary is not None else None
    refuse_other_labels(resumed, ours)
    say_other_batches(whole, resumed)
    refuse_other_shapes(resumed.path, resumed.options, cfg)
    wanted = whole.optimization.max_update
    if not resumed.resumed or whole.checkpoint.reset_optimizer or not 0 < wanted <= resumed.updates:
        return False
    logger.warning(
        "%s has %d updates, optimization.max_update=%d: this run is finished and trains no more. "
        "Raise optimization.max_update, or give another checkpoint.save_dir",
        resumed.path,
        resumed.updates,
        wanted,
    )
    return True


def say_other_batches(whole: Any, resumed: "Resumed") -> None:
    """Warns if a run goes on in the middle of an epoch whose batches are others by now: fairseq
    counts batches, and stops if there are not so many."""
    differ = [
        f"{section}.{key}={whole[section][key]} here, {theirs} there"
        for (section, key), theirs in resumed.batches.items()
        if key in whole[section] and whole[section][key] != theirs
    ]
    if resumed.resumed and differ and not whole.checkpoint.reset_dataloader:
        logger.warning(
            "%s was left in the middle of an epoch, and batches are others now (%s): if fairseq "
            "says 'dataloader mismatch', set checkpoint.reset_dataloader=true",
            resumed.path,
            "; ".join(differ),
        )


def refuse_other_labels(resumed: "Resumed", ours: Optional[list]) -> None:
    """Raises ValueError if a checkpoint's labels are known and are not those at hand, in the
    same order."""
    path, theirs = resumed.path, resumed.labels
    if theirs is None or ours is None or theirs == ours:
        return
    at = first_difference(theirs, ours)
    if at is None:
        difference = f"{len(theirs)} labels there, {len(ours)} here"
    else:
        difference = f"label {at} is {theirs[at]!r} there, {ours[at]!r} here"
    remedy = "begin anew in another checkpoint.save_dir"
    if not resumed.resumed:
        encoder = f"model.w2v_path={path}"
        if resumed.options.get("lora_rank"):
            encoder = f"model.w2v_path=MERGED.pt of varan-export merge {path} MERGED.pt,"
        remedy = (
            f"begin from its encoder alone, by {encoder} without checkpoint.finetune_from_model"
        )
    raise ValueError(
        f"{path} was trained with another dictionary: {difference}. Use the dictionary file it was "
        f"trained with, or {remedy}"
    )


def refuse_other_shapes(path: str, theirs: Dict[str, Any], ours: Any) -> None:
    """Raises ValueError if a checkpoint was trained with another value of an option that decides
    shapes, which fairseq would say as a list of weights. theirs: options known of its model."""
    differ = [
        f"model.{key}={ours[key]} here, {theirs[key]} there"
        for key in shape_options(ours._name, lora=bool(ours.lora_rank))
        if key in theirs and key in ours and _differ(key, theirs[key], ours[key])
    ]
    if differ:
        raise ValueError(
            f"{path} was trained with other options: {'; '.join(differ)}. Use these, or begin anew "
            "in another checkpoint.save_dir"
        )


def _differ(key: str, theirs: Any, ours: Any) -> bool:
    # what auto means is known on the encoder alone
    return theirs != ours and not (key == "layer_norm" and "auto" in (theirs, ours))


@dataclass(frozen=True)
class Resumed:
    """A checkpoint that fairseq will load. resumed: whether it continues that run. labels, options
    (of its model), updates: what it says of its training. batches: options that decided them, if
    it was left in the middle of an epoch."""

    path: str
    resumed: bool
    labels: Optional[List[str]]
    options: Dict[str, Any]
    updates: int
    batches: Dict[Tuple[str, str], Any]


def _resumed_from(options: Any) -> Optional[Resumed]:
    """By fairseq's options of checkpoints; None if there is no file. Raises ValueError for one that
    cannot be used."""
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
        model = (state.get("cfg") or {}).get("model") or {}
        keys = shape_options(model["_name"]) if model.get("_name") in TASKS else []
        known = {key: model[key] for key in keys if key in model}
        batches = _batches(state)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be gone on from: {reason(error)}") from None
    check_finite(weights, path)
    symbols = None if labels is None else labels.symbols
    return Resumed(path, resumed, symbols, known, updates, batches)


def _batches(state: Dict[str, Any]) -> Dict[Tuple[str, str], Any]:
    position = ((state.get("extra_state") or {}).get("train_iterator") or {}).get(
        "iterations_in_epoch", 0
    )
    cfg = state.get("cfg") or {}
    keys = [("dataset", "max_tokens"), ("dataset", "batch_size"), ("dataset", "train_subset")]
    return {
        (section, key): cfg[section][key]
        for section, key in [*keys, ("optimization", "update_freq")]
        if position and key in (cfg.get(section) or {})
    }
