"""The checkpoint that a training run resumes from: whether it fits what the run asks for."""

import logging
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ..adapters.metadata import TASKS, shape_options
from ..data.labels import first_difference
from ..runtime.pickles import peek, reason, state_labels
from ..runtime.processes import on_first_rank
from ..upstream.checkpoint import check_finite

logger = logging.getLogger(__name__)


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
    """Warns if a run continues in the middle of an epoch whose batches are others by now: fairseq
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
    remedy = "start again in another checkpoint.save_dir"
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
            f"{path} was trained with other options: {'; '.join(differ)}. Use these, or start again "
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
        raise ValueError(f"{path} cannot be resumed from: {reason(error)}") from None
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
