"""Task `utterance_classification`: one label per utterance, in the files of fairseq main's
`audio_classification`."""

import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from torch import Tensor

from ..criterions.confusion import log_recalls
from ..data.labels import read_class_dictionary, read_labels
from .utterance import CheckedSplit, UtteranceConfig, UtteranceTask

logger = logging.getLogger(__name__)


@dataclass
class UtteranceClassificationConfig(UtteranceConfig):
    """Keys of `UtteranceConfig`."""


@register_task("utterance_classification", dataclass=UtteranceClassificationConfig)
class UtteranceClassificationTask(UtteranceTask):
    """A line `label count` for each class in `dict.{labels}.txt`, class 0 first; one label per line in
    `{split}.{labels}`."""

    def read_dictionary(self, path: str) -> Dictionary:
        return read_class_dictionary(path)

    def read_targets(self, path: str, count: int) -> List[int]:
        """Class indices."""
        return read_labels(path, self.target_dictionary, count)

    def about(self, checked: CheckedSplit) -> str:
        numbers = zip(self.target_dictionary.symbols, self._counts(checked.kept))
        return ", ".join(f"{symbol} {n:.0f}" for symbol, n in numbers)

    def check_splits(self, train: str, valid: List[str]) -> None:
        """Warns of classes without examples, too."""
        super().check_splits(train, valid)
        counts = self._counts(self.checked[train].kept)
        empty = [name for name, count in zip(self.target_dictionary.symbols, counts) if not count]
        if empty:
            logger.warning(
                "%d of %d classes have no examples in %s: %s",
                len(empty),
                len(counts),
                train,
                ", ".join(empty),
            )

    def train_counts(self) -> Optional[Tensor]:
        """Examples of each class in the training split, [C] float32; None outside of training."""
        targets = self.train_targets()
        return None if targets is None else self._counts(targets)

    def _counts(self, targets: List[int]) -> Tensor:
        return torch.bincount(torch.tensor(targets), minlength=len(self.target_dictionary)).float()

    def reduce_metrics(self, logging_outputs: List[Dict[str, Any]], criterion: Any) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_confusion" in log for log in logging_outputs):
            log_recalls(self.target_dictionary.symbols)
