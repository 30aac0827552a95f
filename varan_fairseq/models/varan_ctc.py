"""Model `varan_ctc`: a pre-trained encoder, read by an aggregation, for CTC."""

import logging
from dataclasses import dataclass, field
from typing import Any, Dict

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from torch import Tensor

from ..manifest import check_split
from ..method.combine import CTC_RULES, pick_layer
from ..method.consensus import consensus_layer
from ..upstream import Encoder
from .layerwise import LayerwiseConfig, LayerwiseModel

logger = logging.getLogger(__name__)


@dataclass
class VaranCtcConfig(LayerwiseConfig, Wav2Vec2CtcConfig):
    """fairseq's CTC fine-tuning keys with their names and meaning, those of
    `LayerwiseConfig`, and those below."""

    combine: str = field(
        default="consensus",
        metadata={"help": f"how predictions of the layers become one: {', '.join(CTC_RULES)}"},
    )

    check_audio: bool = field(
        default=True,
        metadata={"help": "read the header of every audio file before training starts"},
    )


@register_model("varan_ctc", dataclass=VaranCtcConfig)
class VaranCtc(LayerwiseModel):
    """`LayerwiseModel` with a prediction a frame.

    cfg: `VaranCtcConfig`. num_classes: labels of the dictionary, blank included. blank:
    index of the blank.
    """

    rules = CTC_RULES

    def __init__(self, cfg: VaranCtcConfig, encoder: Encoder, num_classes: int, blank: int = 0):
        super().__init__(cfg, encoder, num_classes, pooled=False)
        self.blank = blank

    @classmethod
    def on_encoder(cls, cfg: VaranCtcConfig, encoder: Encoder, task: Any) -> "VaranCtc":
        labels = task.target_dictionary
        return cls(cfg, encoder, len(labels), labels.index(getattr(task, "blank_symbol", "<s>")))

    @classmethod
    def check_data(cls, cfg: VaranCtcConfig, task: Any) -> None:
        """In one process only."""
        if not isinstance(task, AudioPretrainingTask):
            logger.warning(
                "task %s does not store the encoder's configuration in checkpoints, so decoding "
                "will need model.w2v_path again: task._name=audio_finetuning makes them "
                "self-contained",
                type(task).__name__,
            )
            return
        if task.cfg.binarized_dataset or getattr(task.cfg, "multi_corpus_keys", None):
            logger.warning("binarized and multi-corpus data are not checked before training")
            return
        if distributed_utils.get_global_rank() == 0:
            for split in [cfg.train_subset, *cfg.valid_subset.split(",")]:
                check_split(
                    task.cfg.data, split, task.cfg.labels, task.cfg.sample_rate, cfg.check_audio
                )

    def combined(self, net_output: Dict[str, Any]) -> Tensor:
        logits = net_output["layer_logits"]
        if self.cfg.combine != "consensus" or self.cfg.decode_layer or len(logits) == 1:
            return super().combined(net_output)
        self.warn_of_no_gradient()
        each = [layer.float().log_softmax(-1) for layer in logits]
        layer = consensus_layer(each, net_output["log_q"], net_output["lengths"], self.blank)
        return pick_layer(each, layer)

    def get_logits(self, net_output: Dict[str, Any], normalize: bool = False) -> Tensor:
        """The combined prediction, log-probabilities [T, B, V] (`normalize` asks for what
        is always so). Padding frames predict blank, as fairseq's decoder wants it."""
        log_probs = self.combined(net_output)
        if self.cfg.blank_weight != 0:
            log_probs = self._weigh_blank(log_probs)
        if net_output["padding_mask"] is not None:
            silence = log_probs.new_full((log_probs.shape[-1],), float("-inf"))
            silence[self.blank] = 0
            padding = net_output["padding_mask"].t().unsqueeze(-1)
            log_probs = torch.where(padding, silence, log_probs)
        return log_probs

    def _weigh_blank(self, log_probs: Tensor) -> Tensor:
        weight = torch.zeros_like(log_probs)
        weight[..., self.blank] = self.cfg.blank_weight
        if self.cfg.blank_mode == "add":
            return (log_probs + weight).log_softmax(-1)
        is_blank = torch.arange(log_probs.shape[-1], device=log_probs.device) == self.blank
        return torch.where(is_blank, weight, log_probs).log_softmax(-1)

    def get_normalized_probs(
        self, net_output: Dict[str, Any], log_probs: bool, sample: Any = None
    ) -> Tensor:
        """As fairseq's CTC models: [T, B, V], log-probabilities or probabilities."""
        result = self.get_logits(net_output)
        return result if log_probs else result.exp()
