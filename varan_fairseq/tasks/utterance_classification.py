"""Task `utterance_classification`: one label an utterance.

Data are those of fairseq main's `audio_classification`: `{split}.tsv`, one label a line in
`{split}.{labels}`, and `dict.{labels}.txt`. If there is a `{split}.spk`, one speaker a line,
no speaker may occur in training and validation.
"""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Set

import torch
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from omegaconf import II
from torch import Tensor

from ..criterions.confusion import log_recalls
from ..data.audio_checks import header_findings
from ..data.checks import file_findings, speaker_findings, task_findings
from ..data.findings import ERROR, WARNING, Split, enforce, split_files
from ..data.labelled_audio import LabelledAudio
from ..data.labels import read_class_dictionary, read_labels
from ..runtime.fairseq_compat import option_or
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


@dataclass(frozen=True)
class CheckedSplit:
    """labels: class index of each entry of the manifest, or None."""

    split: Split
    labels: Optional[List[int]]


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
            raise ValueError(f"task.max_unreadable={cfg.max_unreadable}: expected a share, 0 .. 1")
        plain = {"binarized_dataset": False, "multi_corpus_keys": None, "subsample": 1}
        for key, neutral in plain.items():
            if option_or(cfg, key, neutral) != neutral:
                raise ValueError(
                    f"task.{key}={getattr(cfg, key)} is not supported by utterance_classification: "
                    f"leave it at {neutral}"
                )
        super().__init__(cfg)
        self.train_split: Optional[str] = None
        self.checked: Dict[str, CheckedSplit] = {}
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
        enforce(task_findings(self.cfg))
        self.train_split = train
        for name in [train, *valid]:
            self.checked[name] = self._check(name)
            counts = self._counts(self.checked[name])
            numbers = zip(self.target_dictionary.symbols, counts)
            shown = ", ".join(f"{symbol} {n:.0f}" for symbol, n in numbers)
            logger.info("%s: %d utterances (%s)", name, counts.sum(), shown)
        counts = self._counts(self.checked[train])
        empty = [name for name, count in zip(self.target_dictionary.symbols, counts) if not count]
        if empty:
            logger.warning(
                "%d of %d classes have no examples in %s: %s",
                len(empty),
                len(counts),
                train,
                ", ".join(empty),
            )
        severity = WARNING if self.cfg.allow_shared_speakers else ERROR
        splits = [checked.split for checked in self.checked.values()]
        enforce(speaker_findings(splits, severity))

    def train_counts(self) -> Optional[Tensor]:
        """Examples of each class in the training split, [C] float32; None where no model was
        built to train, as in fairseq-validate."""
        if self.train_split is None:
            return None
        return self._counts(self.checked[self.train_split])

    def _counts(self, checked: CheckedSplit) -> Tensor:
        lost = checked.split.unreadable
        labels = [label for row, label in enumerate(checked.labels or []) if row not in lost]
        return torch.bincount(torch.tensor(labels), minlength=len(self.target_dictionary)).float()

    def _check(self, name: str, labelled: bool = True) -> CheckedSplit:
        split = Split(name, split_files(self.cfg, name))
        enforce(file_findings(split, labels=False))
        labels = None
        if labelled:
            count = len(split.manifest.entries)
            labels = read_labels(split.files.labels, self.target_dictionary, count)
        if self.cfg.check_audio:
            # once for all processes, which have to leave out the same
            split.unreadable = on_first_rank(lambda: self._unreadable(split))
        return CheckedSplit(split, labels)

    def _unreadable(self, split: Split) -> Set[int]:
        least, most = self.cfg.min_sample_size, self.cfg.max_unreadable
        enforce(header_findings(split, self.cfg.sample_rate, least, most))
        return split.unreadable

    def load_dataset(self, split: str, task_cfg: Any = None, **unused) -> None:
        """A split with its labels."""
        self._load(split, self.checked.get(split) or self._check(split))

    def load_audio(self, split: str) -> None:
        """A split without its labels, which need not exist."""
        self._load(split, self._check(split, labelled=False))

    def _load(self, split: str, checked: CheckedSplit) -> None:
        super().load_dataset(split)
        audio, manifest = self.datasets[split], checked.split.manifest
        audio.root_dir = manifest.root  # fairseq leaves a byte order mark in it
        skipped = audio.skipped_indices  # shorter than min_sample_size
        rows = [row for row in range(len(manifest.entries)) if row not in skipped]
        labels = checked.labels
        self.datasets[split] = LabelledAudio(
            audio,
            None if labels is None else torch.tensor([labels[row] for row in rows]),
            leave_out=[index for index, row in enumerate(rows) if row in checked.split.unreadable],
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
