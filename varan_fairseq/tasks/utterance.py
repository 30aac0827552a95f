"""What our tasks share: audio, and a target for each utterance.

Data are `{split}.tsv`, a line of targets for each of its files in `{split}.{labels}`, and
`dict.{labels}.txt`. If there is a `{split}.spk`, one speaker per line, no speaker may occur in training
and validation.
"""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Set

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from omegaconf import II

from ..data.audio_checks import header_findings
from ..data.checks import file_findings, speaker_findings, task_findings
from ..data.findings import ERROR, WARNING, Split, enforce, split_files
from ..data.labelled_audio import LabelledAudio
from ..runtime.fairseq_compat import option_or
from ..runtime.processes import on_first_rank

logger = logging.getLogger(__name__)


@dataclass
class UtteranceConfig(AudioPretrainingConfig):
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
    """targets: of each entry of the manifest, or None."""

    split: Split
    targets: Optional[Sequence[Any]]

    @property
    def kept(self) -> List[Any]:
        """Targets of the files that can be read."""
        lost = self.split.unreadable
        return [target for row, target in enumerate(self.targets or []) if row not in lost]


class UtteranceTask(AudioPretrainingTask):
    """Utterances longer than `max_sample_size` are cropped: at random in training, to their middle
    elsewhere. The dictionary travels in checkpoints, as does the encoder's configuration. Raises
    FileNotFoundError or ValueError that name file, line or option. A task of this kind adds the three
    methods that read targets.
    """

    def __init__(self, cfg: UtteranceConfig):
        if not cfg.labels:
            raise ValueError("task.labels is not set: give the ending of the label files, as emo")
        if not 0 <= cfg.max_unreadable <= 1:
            raise ValueError(f"task.max_unreadable={cfg.max_unreadable}: expected a share, 0 .. 1")
        plain = {"binarized_dataset": False, "multi_corpus_keys": None, "subsample": 1}
        for key, neutral in plain.items():
            if option_or(cfg, key, neutral) != neutral:
                raise ValueError(
                    f"task.{key}={getattr(cfg, key)} is not supported by {cfg._name}: "
                    f"leave it at {neutral}"
                )
        super().__init__(cfg)
        self.train_split: Optional[str] = None
        self.checked: Dict[str, CheckedSplit] = {}
        self.state.add_factory("target_dictionary", self._read_dictionary)

    def _read_dictionary(self) -> Dictionary:
        folder = self.cfg.target_dictionary or self.cfg.data
        return self.read_dictionary(os.path.join(folder, f"dict.{self.cfg.labels}.txt"))

    def read_dictionary(self, path: str) -> Dictionary:
        """The model's outputs, in their order."""
        raise NotImplementedError

    def read_targets(self, path: str, count: int) -> Sequence[Any]:
        """Of a label file for so many audio files."""
        raise NotImplementedError

    def about(self, checked: CheckedSplit) -> str:
        """What the log says of a split's targets."""
        raise NotImplementedError

    @property
    def target_dictionary(self) -> Dictionary:
        """The outputs of a model; their indices are those of the targets."""
        return self.state.target_dictionary

    def check_splits(self, train: str, valid: List[str]) -> None:
        """Checks everything that would stop or spoil training later."""
        enforce(task_findings(self.cfg))
        self.train_split = train
        for name in [train, *valid]:
            checked = self.checked[name] = self._check(name)
            logger.info("%s: %d utterances (%s)", name, len(checked.kept), self.about(checked))
        severity = WARNING if self.cfg.allow_shared_speakers else ERROR
        splits = [checked.split for checked in self.checked.values()]
        enforce(speaker_findings(splits, severity))

    def train_targets(self) -> Optional[List[Any]]:
        """Those of the training split; None where no model was built to train, as in
        fairseq-validate."""
        return None if self.train_split is None else self.checked[self.train_split].kept

    def _check(self, name: str, labelled: bool = True) -> CheckedSplit:
        split = Split(name, split_files(self.cfg, name))
        enforce(file_findings(split, labels=False))
        targets = None
        if labelled:
            targets = self.read_targets(split.files.labels, len(split.manifest.entries))
        if self.cfg.check_audio:
            # once for all processes, which have to leave out the same
            split.unreadable = on_first_rank(lambda: self._unreadable(split))
        return CheckedSplit(split, targets)

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
        targets = checked.targets
        self.datasets[split] = LabelledAudio(
            audio,
            None if targets is None else torch.from_numpy(np.array(targets)[rows]),
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
