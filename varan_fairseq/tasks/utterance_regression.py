"""Task `utterance_regression`: one or several numbers per utterance, such as valence and arousal, or
a mean opinion score."""

from dataclasses import dataclass
from typing import Any, Dict, List

from fairseq.data import Dictionary
from fairseq.tasks import register_task

from ..criterions.moments import log_each
from ..data.values import read_value_dictionary, read_values
from ..scoring.regression import spread
from .utterance import CheckedSplit, UtteranceConfig, UtteranceTask


@dataclass
class UtteranceRegressionConfig(UtteranceConfig):
    """Keys of `UtteranceConfig`."""


@register_task("utterance_regression", dataclass=UtteranceRegressionConfig)
class UtteranceRegressionTask(UtteranceTask):
    """A line `name count` for each number in `dict.{labels}.txt`; the numbers of an utterance, in that
    order and with blanks between, per line in `{split}.{labels}`."""

    def read_dictionary(self, path: str) -> Dictionary:
        return read_value_dictionary(path)

    def read_targets(self, path: str, count: int) -> List[List[float]]:
        return read_values(path, self.target_dictionary, count).tolist()

    def about(self, checked: CheckedSplit) -> str:
        means, deviations = spread(checked.kept)
        rows = zip(self.target_dictionary.symbols, means, deviations)
        return ", ".join(f"{name} {mean:.4g} +- {deviation:.3g}" for name, mean, deviation in rows)

    def reduce_metrics(self, logging_outputs: List[Dict[str, Any]], criterion: Any) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_moments" in log for log in logging_outputs):
            log_each(self.target_dictionary.symbols)
