"""A split that is loaded with its labels checked: what there is to score a model on."""

from dataclasses import dataclass
from typing import Any, List, Optional

import numpy as np
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process as fairseq_post_process

from ..data.audio_checks import header_findings
from ..data.checks import MAX_UNKNOWN, file_findings, label_findings
from ..data.findings import Split, enforce, split_files
from ..data.labels import read_labels
from ..data.length_checks import length_findings
from ..data.manifest import Manifest
from ..models.preflight import encoder_frames
from .load import training_post_process
from .outputs import load_audio, load_checked_audio


@dataclass(frozen=True)
class References:
    """units: of each utterance, by the model's dictionary. text: what fairseq makes of them.
    speakers: of each, if there is a file of them."""

    units: List[List[int]]
    text: List[str]
    speakers: Optional[List[str]]


@dataclass(frozen=True)
class Transcribed:
    """Of a recognizer. post_process: how labels become words, fairseq's `post_process`."""

    manifest: Manifest
    references: References
    post_process: str


@dataclass(frozen=True)
class Classified:
    """Of a classifier. labels: class indices [N]. speakers: [N], if they are known."""

    manifest: Manifest
    labels: np.ndarray
    speakers: Optional[List[str]]


def load_transcribed(model: Any, cfg: Any, task: Any, subset: str) -> Transcribed:
    """Raises ValueError or FileNotFoundError for what cannot be scored."""
    post_process = training_post_process(cfg)
    split = Split(subset, split_files(cfg.task, subset))
    rate = cfg.task.sample_rate
    check_transcribed(split, task.target_dictionary, rate, post_process=post_process)
    references = read_references(split, task.target_dictionary, post_process)
    enforce(length_findings(split, encoder_frames(model.w2v_encoder)))
    load_checked_audio(task, cfg.task, subset)
    return Transcribed(split.manifest, references, post_process)


def check_transcribed(
    split: Split,
    labels: Dictionary,
    sample_rate: int,
    max_unknown: float = MAX_UNKNOWN,
    post_process: Optional[str] = None,
) -> None:
    """Reads and checks all of a split that scoring needs but the encoder's sizes."""
    enforce(file_findings(split))
    enforce(label_findings(split, labels, max_unknown, post_process))
    enforce(header_findings(split, sample_rate))


def load_classified(model: Any, cfg: Any, task: Any, subset: str) -> Classified:
    """The same for a classifier."""
    split = Split(subset, split_files(cfg.task, subset))
    enforce(file_findings(split, labels=False))
    count = len(split.manifest.entries)
    labels = np.array(read_labels(split.files.labels, task.target_dictionary, count))
    load_audio(model, cfg, task, subset, split.manifest)
    return Classified(split.manifest, labels, split.speakers)


def read_references(split: Split, labels: Dictionary, post_process: str) -> References:
    """Of a split whose files were read. Raises ValueError if there is not a word in it."""
    units = [
        labels.encode_line(line, append_eos=False, add_if_not_exist=False).tolist()
        for line in split.lines
    ]
    text = [fairseq_post_process(labels.string(row), post_process) for row in units]
    if not any(line.split() for line in text):
        raise ValueError(
            f"{split.files.labels}: the transcripts have no words after "
            f"common_eval.post_process={post_process}: there is no WER"
        )
    return References(units, text, split.speakers)
