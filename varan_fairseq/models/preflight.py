"""What would stop or spoil a training run later, found before it begins, and what is written to its
configuration."""

import logging
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

import numpy as np
import torch
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from omegaconf import open_dict

from ..adapters.file import Adapter, read_adapter
from ..data.findings import Frames, Split, enforce
from ..data.length_checks import batch_findings, length_findings, mask_findings
from ..runtime.fairseq_compat import whole_config
from ..runtime.processes import on_first_rank
from ..upstream import Encoder
from .finetune import check_groups, finetune_mode
from .options import check_options
from .resume import check_resumed

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
    updates, scheduler = whole.optimization.max_update, whole.lr_scheduler
    if getattr(scheduler, "_name", None) == "tri_stage":
        steps = ("warmup_steps", "hold_steps", "decay_steps")
        ratio = getattr(scheduler, "phase_ratio", None)
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
                f"lr_scheduler.phase_ratio={list(ratio)} adds up to {sum(ratio)!r}, expected 1 exactly"
            )
        if ratio is not None and not int(updates * ratio[2]):
            raise ValueError(
                f"optimization.max_update={updates}: lr_scheduler.phase_ratio={list(ratio)} leaves no "
                "update for the last phase: raise max_update"
            )
        if ratio is None and not sum(getattr(scheduler, key, 0) for key in steps):
            raise ValueError(
                f"lr_scheduler.phase_ratio and {', '.join(f'lr_scheduler.{s}' for s in steps)} are "
                "not set: give the ratio, or steps"
            )
    frozen = getattr(cfg, "freeze_finetune_updates", 0)
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
    """Raises ValueError for audio that no batch may hold, where fairseq would stop. Warns of
    utterances that validation would leave out."""
    multiple = whole.dataset.required_batch_size_multiple
    for split in splits[1:]:
        if multiple > 1 and split.manifest is not None:
            logger.warning(
                "dataset.required_batch_size_multiple=%d: fairseq may leave out up to %d of the %d "
                "utterances of %s in every validation: set it to 1",
                multiple,
                min(multiple - 1, len(split.manifest.entries)),
                len(split.manifest.entries),
                split.name,
            )
    for split in splits:
        key = "max_tokens" if split is splits[0] else "max_tokens_valid"
        enforce(batch_findings(split, task.cfg, f"dataset.{key}", whole.dataset[key]))
