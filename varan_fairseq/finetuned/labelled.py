"""A split that is loaded with its labels checked: what there is to score a model on."""

import os
from typing import Any, List, NamedTuple, Optional

import numpy as np

from ..data.check import check_split, split_files
from ..data.labels import read_labels
from ..data.manifest import Manifest, read_manifest, read_speakers, speakers_path
from ..data.short import check_lengths
from ..decoding.evaluate import References, read_references
from .load import training_post_process
from .outputs import load_audio, load_checked_audio


class Transcribed(NamedTuple):
    """Of a recognizer. spelling: how labels become words, fairseq's `post_process`."""

    manifest: Manifest
    references: References
    spelling: str


class Classified(NamedTuple):
    """Of a classifier. labels: class indices [N]. speakers: [N], if they are known."""

    manifest: Manifest
    labels: np.ndarray
    speakers: Optional[List[str]]


def load_transcribed(model: Any, cfg: Any, task: Any, subset: str) -> Transcribed:
    """Raises ValueError or FileNotFoundError for what cannot be scored."""
    spelling = training_post_process(cfg)
    labels, files = task.target_dictionary, split_files(cfg.task, subset)
    manifest = check_split(files, labels, cfg.task.sample_rate)
    references = read_references(files, labels, spelling)
    check_lengths(files.manifest, manifest, model.w2v_encoder.receptive_field, None)
    load_checked_audio(task, cfg.task, subset)
    return Transcribed(manifest, references, spelling)


def load_classified(model: Any, cfg: Any, task: Any, subset: str) -> Classified:
    """The same for a classifier."""
    path = os.path.join(cfg.task.data, f"{subset}.tsv")
    manifest = read_manifest(path)
    count = len(manifest.entries)
    labels = os.path.join(cfg.task.data, f"{subset}.{cfg.task.labels}")
    labels = np.array(read_labels(labels, task.target_dictionary, count))
    speakers = read_speakers(speakers_path(path), count)
    load_audio(model, cfg, task, subset, manifest)
    return Classified(manifest, labels, speakers)
