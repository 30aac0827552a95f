"""Emissions that are computed once: cached beside the checkpoint, under a key of all that they
depend on."""

import hashlib
import json
import logging
import os
from dataclasses import astuple
from typing import Any, Callable, Dict, Optional

from .. import __version__
from ..data.audio_files import audio_state
from ..data.findings import Split, enforce
from ..data.length_checks import length_findings
from ..finetuned.outputs import load_checked_audio
from ..finetuned.results import beside, results_name, setting_name
from ..models.preflight import encoder_frames
from ..runtime.files import locked, read_json, write_lines, written_whole
from . import shards
from .emissions import Emissions, compute, read
from .request import Decoding

logger = logging.getLogger(__name__)

VERSION = 1
_ABOUT = "about.json"


def split_emissions(decoding: Decoding, split: Split) -> Emissions:
    """Those of a checked split: cached ones, if nothing that they depend on changed."""
    config, options = decoding.config, decoding.options
    subset, manifest = split.name, split.manifest
    key = {
        "version": __version__,
        "checkpoint": decoding.states,
        "overrides": {**decoding.model_overrides, **decoding.reading},
        "fp16": config.common.fp16,
        "normalize": config.task.normalize,
        "audio": audio_state(manifest, config.task.sample_rate),
    }
    if not decoding.mask_group_norm:  # what is said of an utterance depends on its batch
        key["max_tokens"] = config.dataset.max_tokens
    name = results_name(
        "emissions", subset, *setting_name(decoding.path, options.combine, options.layer)
    )
    folder = os.path.join(_root(decoding), name)
    seconds = manifest.samples.sum() / config.task.sample_rate
    if options.shard and not is_cached(folder, key):
        folder, key = options.shard.folder(folder), {**key, "shard": astuple(options.shard)}
    elif options.shards > 1:
        parts = [shards.Shard(index, options.shards) for index in range(options.shards)]
        if not is_cached(folder, key) and not all(
            is_cached(part.folder(folder), {**key, "shard": astuple(part)}) for part in parts
        ):
            shards.run_shards(shards.own_command(options.arguments()), options.shards)
        return cached(
            folder, key, lambda to: shards.merge_shards(folder, options.shards, to), seconds
        )

    def make(partial: str) -> Emissions:
        decoding.load()
        enforce(length_findings(split, encoder_frames(decoding.model.w2v_encoder)))
        load_checked_audio(decoding.task, config.task, subset)
        return compute(
            decoding.model,
            decoding.task,
            subset,
            partial,
            max_tokens=config.dataset.max_tokens,
            num_workers=config.dataset.num_workers,
            shard=astuple(options.shard) if options.shard else (0, 1),
        )

    return cached(folder, key, make, seconds)


def cached(
    folder: str,
    key: Dict[str, Any],
    make: Callable[[str], Emissions],
    audio_seconds: float,
) -> Emissions:
    """Emissions in `folder`, if they are those of `key`; else `make(folder)` makes them there.
    audio_seconds: for the log."""
    wanted = _identity(key)
    kept = _read_cached(folder, key)
    if kept is not None:
        logger.info("emissions of %.0f s of audio: as kept in %s", audio_seconds, folder)
        return kept
    with written_whole(folder, (_ABOUT,)) as partial:
        made = make(partial)
        write_lines(
            os.path.join(partial, _ABOUT), [json.dumps({**wanted, "key": key}, default=str)]
        )
    logger.info(
        "emissions of %.0f s of audio in %.1f s, %.1f MB -> %s",
        audio_seconds,
        made.seconds,
        made.log_probs.nbytes / 1e6,
        folder,
    )
    return made  # not what lies there by now: another process may have replaced it


def _read_cached(folder: str, key: Dict[str, Any]) -> Optional[Emissions]:
    """What lies in a folder, if it is that of `key` and whole. Read under the lock of those who
    replace it; what was opened then stays what it was."""
    if not is_cached(folder, key):
        return None
    with locked(folder):
        if not is_cached(folder, key):
            return None
        try:
            return read(folder)
        except ValueError as error:
            logger.warning("%s: they are computed again", error)
            return None


def _root(decoding: Decoding) -> str:
    """The folder of the folders of emissions: beside the checkpoint, or, where nobody may write
    that, with the results."""
    given = decoding.options.emissions
    if given:
        return given
    folder = beside(decoding.path)
    if os.access(folder, os.W_OK) or not decoding.results:
        return folder
    return os.path.dirname(os.path.abspath(decoding.results))


def is_cached(folder: str, key: Dict[str, Any]) -> bool:
    """Whether the emissions in a folder are those of `key`."""
    about = read_json(os.path.join(folder, _ABOUT)) or {}
    return {name: about.get(name) for name in ("version", "sha256")} == _identity(key)


def _identity(key: Dict[str, Any]) -> Dict[str, Any]:
    text = json.dumps(key, sort_keys=True, default=str)
    return {"version": VERSION, "sha256": hashlib.sha256(text.encode()).hexdigest()}
