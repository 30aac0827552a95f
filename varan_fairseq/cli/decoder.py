"""The splits that varan-infer is asked for: checked, and as the model hears them."""

import logging
import os
from typing import Tuple

from fairseq.data import Dictionary

from .. import __version__
from ..data.audio_check import audio_state
from ..data.check import SplitFiles, check_dictionary, check_split, check_task, split_files
from ..data.manifest import Manifest, read_lines
from ..data.short import check_lengths
from ..decoding import shards
from ..decoding.emissions import Emissions, compute, file_state, is_kept, kept
from ..finetuned.outputs import load_checked_audio
from ..method.combine import CTC_RULES
from . import beside, reading_overrides, results_name, setting_name
from .request import Decoding, literal

logger = logging.getLogger(__name__)


def check_data(decoding: Decoding, subset: str) -> Tuple[SplitFiles, Manifest, Dictionary]:
    """A split that was checked, its labels by the checkpoint's dictionary."""
    cfg, labels = decoding.config.task, decoding.labels
    check_task(cfg)
    files = split_files(cfg, subset)
    if labels is None:
        check_dictionary(files.dictionary)
        labels = Dictionary.load(files.dictionary)
    elif os.path.isfile(files.dictionary):
        there = [line.rstrip().rpartition(" ")[0] for line in read_lines(files.dictionary)]
        if there != labels.symbols[labels.nspecial :]:
            logger.warning(
                "%s is not the dictionary of the training: labels are read by the checkpoint's",
                files.dictionary,
            )
    manifest = check_split(files, labels, cfg.sample_rate, max_unknown=decoding.max_unknown)
    return files, manifest, labels


def split_emissions(decoding: Decoding, subset: str, manifest: Manifest) -> Emissions:
    """Those of a checked split: kept ones, if nothing that they depend on changed."""
    config, args = decoding.config, decoding.args
    reading = reading_overrides(args, CTC_RULES)
    key = {
        "version": __version__,
        "checkpoint": [file_state(decoding.path), file_state(decoding.base)],
        "overrides": {**literal(config), **reading},
        "fp16": config.common.fp16,
        "normalize": config.task.normalize,
        "audio": audio_state(manifest, config.task.sample_rate),
    }
    name = results_name("emissions", subset, *setting_name(decoding.path, args))
    folder = os.path.join(args.emissions or beside(decoding.path), name)
    seconds = manifest.samples.sum() / config.task.sample_rate
    if args.shard and not is_kept(folder, key):
        folder, key = args.shard.folder(folder), {**key, "shard": args.shard}
    elif args.shards > 1:
        parts = [shards.Shard(index, args.shards) for index in range(args.shards)]
        if not is_kept(folder, key) and not all(
            is_kept(part.folder(folder), {**key, "shard": part}) for part in parts
        ):
            shards.run(shards.own_command(args.argv), args.shards)
        return kept(folder, key, lambda to: shards.merge(folder, args.shards, to), seconds)

    def make(partial: str) -> Emissions:
        decoding.load()
        path = os.path.join(config.task.data, f"{subset}.tsv")
        check_lengths(path, manifest, decoding.model.w2v_encoder.receptive_field, None)
        load_checked_audio(decoding.task, config.task, subset)
        return compute(
            decoding.model,
            decoding.task,
            subset,
            partial,
            max_tokens=config.dataset.max_tokens,
            num_workers=config.dataset.num_workers,
            shard=args.shard or (0, 1),
        )

    return kept(folder, key, make, seconds)
