"""Model `varan_classification`: a pre-trained encoder, read by an aggregation, for one label
an utterance."""

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2AsrConfig
from torch import Tensor

from ..data.findings import Split
from ..tasks.utterance_classification import UtteranceClassificationTask
from ..upstream import Encoder
from .fields import option
from .layerwise import LayerwiseModel
from .options import LayerwiseConfig


def check_utterances(kind: str, wanted: Any, task: Any, names: Sequence[str]) -> List[Split]:
    """`check_data` of a model varan_{kind}, whose task is utterance_{kind}, of class `wanted`."""
    if not isinstance(task, wanted):
        raise ValueError(
            f"model varan_{kind} needs task._name=utterance_{kind}, got {type(task).__name__}"
        )
    task.check_splits(names[0], list(names[1:]))
    return [checked.split for checked in task.checked.values()]


@dataclass
class VaranClassificationConfig(LayerwiseConfig, Wav2Vec2AsrConfig):
    """fairseq's fine-tuning keys with their names and meaning, and those of `LayerwiseConfig`."""

    head_dim: int = option(
        256, "bottleneck width of the probing heads; 0 for none", shapes="reading"
    )


@register_model("varan_classification", dataclass=VaranClassificationConfig)
class VaranClassification(LayerwiseModel):
    """`LayerwiseModel` with one prediction per utterance, read from the mean of its frames
    (docs/method.md, "What training minimises").

    cfg: `VaranClassificationConfig`. num_classes: C.
    """

    def __init__(self, cfg: VaranClassificationConfig, encoder: Encoder, num_classes: int):
        super().__init__(cfg, encoder, num_classes, pooled=True)

    @classmethod
    def on_encoder(
        cls, cfg: VaranClassificationConfig, encoder: Encoder, task: Any
    ) -> "VaranClassification":
        return cls(cfg, encoder, len(task.target_dictionary))

    @classmethod
    def check_data(
        cls, cfg: VaranClassificationConfig, task: Any, names: Sequence[str]
    ) -> List[Split]:
        return check_utterances("classification", UtteranceClassificationTask, task, names)

    def get_logits(self, net_output: Dict[str, Any]) -> Tensor:
        """The combined prediction, log-probabilities [B, C]."""
        return self.combined(net_output)

    def get_normalized_probs(
        self, net_output: Dict[str, Any], log_probs: bool, sample: Any = None
    ) -> Tensor:
        """[B, C], log-probabilities or probabilities."""
        result = self.combined(net_output)
        return result if log_probs else result.exp()
