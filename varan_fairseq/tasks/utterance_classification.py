"""Task `utterance_classification`: one label an utterance.

Data are those of fairseq main's `audio_classification`: `{split}.tsv`, one label a line in
`{split}.{labels}`, and `dict.{labels}.txt`. If there is a `{split}.spk`, one speaker a line,
no speaker may occur in training and validation.
"""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Set

import torch
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from omegaconf import II
from torch import Tensor

from ..criterions.confusion import log_recalls
from ..data.audio_check import audio_problems, refuse_audio
from ..data.check import check_task
from ..data.labelled_audio import LabelledAudio
from ..data.labels import read_class_dictionary, read_labels, shared_speaker
from ..data.manifest import Manifest, read_manifest, read_speakers, speakers_path
from ..runtime.processes import on_first_rank

logger = logging.getLogger(__name__)


@dataclass
class UtteranceClassificationConfig(AudioPretrainingConfig):
    """fairseq's audio keys with their names and meaning, and the keys below."""

    target_dictionary: Optional[str] = field(
        default=None, metadata={"help": "folder of dict.{labels}.txt; default: task.data"}
    )
    check_audio: bool = field(
        default=True,
        metadata={"help": "read the header of every audio file before training starts"},
    )
    max_unreadable: float = field(
        default=0.01,
        metadata={
            "help": "share of a split's audio files that may be unreadable: those are left out, "
            "with a warning; beyond it training does not start"
        },
    )
    allow_shared_speakers: bool = field(
        default=False, metadata={"help": "train although a speaker is in two splits"}
    )
    seed: int = II("common.seed")


class Split(NamedTuple):
    """A checked split. labels: class index of each entry of the manifest, or None.
    unreadable: rows to leave out."""

    manifest: Manifest
    labels: Optional[List[int]]
    unreadable: Set[int]


@register_task("utterance_classification", dataclass=UtteranceClassificationConfig)
class UtteranceClassificationTask(AudioPretrainingTask):
    """Utterances longer than `max_sample_size` are cropped: at random in training, to their
    middle elsewhere. The label set travels in checkpoints, as does the encoder's
    configuration. Raises FileNotFoundError or ValueError that name file, line or option.
    """

    def __init__(self, cfg: UtteranceClassificationConfig):
        if not cfg.labels:
            raise ValueError("task.labels is not set: give the ending of the label files, as emo")
        if not 0 <= cfg.max_unreadable <= 1:
            raise ValueError(f"task.max_unreadable={cfg.max_unreadable}: wanted a share, 0 .. 1")
        plain = {"binarized_dataset": False, "multi_corpus_keys": None, "subsample": 1}
        for key, neutral in plain.items():
            if getattr(cfg, key, neutral) != neutral:
                raise ValueError(
                    f"task.{key}={getattr(cfg, key)} is not supported by utterance_classification: "
                    f"leave it at {neutral}"
                )
        super().__init__(cfg)
        self.train_split: Optional[str] = None
        self.checked: Dict[str, Split] = {}
        self.state.add_factory("target_dictionary", self._read_dictionary)

    def _read_dictionary(self) -> Dictionary:
        folder = self.cfg.target_dictionary or self.cfg.data
        return read_class_dictionary(os.path.join(folder, f"dict.{self.cfg.labels}.txt"))

    @property
    def target_dictionary(self) -> Dictionary:
        """The classes; their indices are those of the targets and of a model's outputs."""
        return self.state.target_dictionary

    def check_splits(self, train: str, valid: List[str]) -> None:
        """Checks everything that would stop or spoil training later, and warns of classes
        without examples."""
        check_task(self.cfg)
        self.train_split = train
        for split in [train, *valid]:
            self.checked[split] = self._check(split)
            counts = self._counts(self.checked[split])
            each = (f"{name} {n:.0f}" for name, n in zip(self.target_dictionary.symbols, counts))
            logger.info("%s: %d utterances (%s)", split, counts.sum(), ", ".join(each))
        counts = self.train_counts()
        empty = [name for name, count in zip(self.target_dictionary.symbols, counts) if not count]
        if empty:
            logger.warning(
                "%d of %d classes have no examples in %s: %s",
                len(empty),
                len(counts),
                train,
                ", ".join(empty),
            )
        if not self.cfg.allow_shared_speakers:
            self._refuse_shared_speakers([train, *valid])

    def train_counts(self) -> Optional[Tensor]:
        """Examples of each class in the training split, [C] float32; None where no model was
        built to train, as in fairseq-validate."""
        if self.train_split is None:
            return None
        return self._counts(self.checked[self.train_split])

    def _counts(self, split: Split) -> Tensor:
        labels = [y for row, y in enumerate(split.labels) if row not in split.unreadable]
        return torch.bincount(torch.tensor(labels), minlength=len(self.target_dictionary)).float()

    def _path(self, split: str, ending: str) -> str:
        return os.path.join(self.cfg.data, f"{split}.{ending}")

    def _check(self, split: str, labelled: bool = True) -> Split:
        path = self._path(split, "tsv")
        manifest, labels = read_manifest(path), None
        if labelled:
            ending = self._path(split, self.cfg.labels)
            labels = read_labels(ending, self.target_dictionary, len(manifest.entries))
        unreadable = set()
        if self.cfg.check_audio:
            # once for all processes, which have to leave out the same
            problems = on_first_rank(
                lambda: audio_problems(
                    path, manifest, self.cfg.sample_rate, self.cfg.min_sample_size
                )
            )
            lost = [problem for problem in problems if problem.unreadable]
            refuse_audio(path, [problem for problem in problems if not problem.unreadable])
            share = len(lost) / len(manifest.entries)
            if share > self.cfg.max_unreadable:
                raise ValueError(
                    f"{path}: {len(lost)} of {len(manifest.entries)} audio files cannot be read "
                    f"({100 * share:.1f}%, task.max_unreadable={self.cfg.max_unreadable} allows "
                    f"{100 * self.cfg.max_unreadable:g}%), the first: {lost[0].text}"
                )
            for problem in lost:
                logger.warning("left out of %s: %s", split, problem.text)
            if lost:
                logger.warning(
                    "%s: %d of %d audio files left out", path, len(lost), len(manifest.entries)
                )
            unreadable = {problem.row for problem in lost}
        return Split(manifest, labels, unreadable)

    def _refuse_shared_speakers(self, splits: List[str]) -> None:
        speakers = {}
        for split in splits:
            count = len(self.checked[split].manifest.entries)
            found = read_speakers(speakers_path(self._path(split, "tsv")), count)
            if found is not None:
                speakers[split] = found
        shared = shared_speaker(speakers)
        if shared:
            raise ValueError(
                f"{speakers_path(self._path(shared.second, 'tsv'))}: {shared}: split by speaker, or set "
                "task.allow_shared_speakers=true"
            )

    def load_dataset(self, split: str, task_cfg: Any = None, **unused) -> None:
        """A split with its labels."""
        self._load(split, self.checked.get(split) or self._check(split))

    def load_audio(self, split: str) -> None:
        """A split without its labels, which need not exist."""
        self._load(split, self._check(split, labelled=False))

    def _load(self, split: str, checked: Split) -> None:
        super().load_dataset(split)
        audio = self.datasets[split]
        audio.root_dir = checked.manifest.root  # fairseq leaves a byte order mark in it
        skipped = audio.skipped_indices  # shorter than min_sample_size
        rows = [row for row in range(len(checked.manifest.entries)) if row not in skipped]
        labels = checked.labels
        self.datasets[split] = LabelledAudio(
            audio,
            None if labels is None else torch.tensor([labels[row] for row in rows]),
            leave_out=[index for index, row in enumerate(rows) if row in checked.unreadable],
            max_samples=self.cfg.max_sample_size,
            random_crop=split == self.train_split,
        )
        cropped = self.datasets[split].num_cropped()
        if cropped:
            logger.info(
                "%s: %d of %d utterances are cropped to %d samples",
                split,
                cropped,
                len(rows),
                self.cfg.max_sample_size,
            )

    def reduce_metrics(self, logging_outputs: List[Dict[str, Any]], criterion: Any) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_confusion" in log for log in logging_outputs):
            log_recalls(self.target_dictionary.symbols)
