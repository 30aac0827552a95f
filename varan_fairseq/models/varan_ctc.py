"""Model `varan_ctc`: a pre-trained encoder, read by an aggregation, for CTC."""

import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import torch
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from fairseq.tasks.hubert_pretraining import HubertPretrainingTask
from torch import Tensor

from ..data.audio_checks import header_findings
from ..data.checks import (
    MAX_UNKNOWN,
    dictionary_findings,
    file_findings,
    label_findings,
    speaker_findings,
    task_findings,
)
from ..data.findings import Split, enforce, split_files
from ..method.choices import CTC_RULES
from ..method.combine import likeliest_layer, pick_layer
from ..method.consensus import consensus_layer
from ..method.vote import vote
from ..runtime.fairseq_compat import option_or, whole_config
from ..runtime.processes import on_first_rank
from ..upstream import Encoder
from .fields import option
from .layerwise import LayerwiseModel
from .options import LayerwiseConfig

logger = logging.getLogger(__name__)


@dataclass
class VaranCtcConfig(LayerwiseConfig, Wav2Vec2CtcConfig):
    """fairseq's CTC fine-tuning keys with their names and meaning, those of
    `LayerwiseConfig`, and those below."""

    combine: str = option(
        "vote", f"how predictions of the layers become one: {', '.join(CTC_RULES)}"
    )
    head_context: int = option(
        0, "frames on either side that a probing head sees", shapes="reading", younger=True
    )
    check_audio: bool = option(True, "read the header of every audio file before training starts")
    max_unknown_labels: float = option(
        MAX_UNKNOWN,
        "share of a split's labels that may lack in the dictionary: those become <unk>, with a "
        "warning; beyond it training does not start",
    )


@dataclass(frozen=True)
class CtcPrediction:
    """log_probs: [T, B, V]. layer: [B] long, 0-based, the one layer that an utterance's are of (by
    the vote, but for the labels that others voted for); None if they are of several layers."""

    log_probs: Tensor
    layer: Optional[Tensor]


@register_model("varan_ctc", dataclass=VaranCtcConfig)
class VaranCtc(LayerwiseModel):
    """`LayerwiseModel` with one prediction per frame.

    cfg: `VaranCtcConfig`. num_classes: labels of the dictionary, blank included. blank:
    index of the blank.
    """

    rules = CTC_RULES

    def __init__(self, cfg: VaranCtcConfig, encoder: Encoder, num_classes: int, blank: int = 0):
        super().__init__(cfg, encoder, num_classes, pooled=False, head_context=cfg.head_context)
        if cfg.blank_mode not in ("add", "set"):
            raise ValueError(f"model.blank_mode={cfg.blank_mode}: choose add or set")
        self.blank = blank

    @classmethod
    def build_model(cls, cfg: VaranCtcConfig, task: Any) -> "VaranCtc":
        """As `LayerwiseModel`. Makes task hubert_pretraining read whole files, which fairseq's own
        fine-tuning recipe leaves out."""
        _keep_whole_files(task)
        return super().build_model(cfg, task)  # type: ignore[return-value]

    @classmethod
    def on_encoder(cls, cfg: VaranCtcConfig, encoder: Encoder, task: Any) -> "VaranCtc":
        labels = task.target_dictionary
        return cls(cfg, encoder, len(labels), labels.index(getattr(task, "blank_symbol", "<s>")))

    @classmethod
    def check_data(cls, cfg: VaranCtcConfig, task: Any, names: Sequence[str]) -> List[Split]:
        """By the first process alone."""
        if not isinstance(task, (AudioPretrainingTask, HubertPretrainingTask)):
            logger.warning("data of task %s are not checked before training", type(task).__name__)
            return []
        enforce(task_findings(task.cfg))
        plain = {"binarized_dataset": False, "multi_corpus_keys": None}
        if any(option_or(task.cfg, key, neutral) != neutral for key, neutral in plain.items()):
            logger.warning("binarized and multi-corpus data are not checked before training")
            return []
        splits = [Split(name, split_files(task.cfg, name)) for name in names]
        whole = whole_config(cfg)
        spelling = None if whole is None else getattr(whole.criterion, "post_process", None)

        def check() -> None:
            enforce(dictionary_findings(splits[0].files.dictionary))
            for split in splits:
                enforce(file_findings(split))
                labels = task.target_dictionary
                enforce(label_findings(split, labels, cfg.max_unknown_labels, spelling))
                if cfg.check_audio:
                    least = task.cfg.min_sample_size
                    enforce(header_findings(split, task.cfg.sample_rate, least))
            enforce(speaker_findings(splits))

        on_first_rank(check)
        return splits

    def predict(self, net_output: Dict[str, Any]) -> CtcPrediction:
        """The combined prediction, padding frames included."""
        net_output = self._weigh_blank(net_output)
        logits, log_q = net_output["layer_logits"], net_output["log_q"]
        if self.cfg.decode_layer:
            layer = torch.full((len(log_q),), self.cfg.decode_layer - 1, device=log_q.device)
        elif len(logits) > 1 and self.cfg.combine == "best_layer":
            layer = likeliest_layer(log_q)
        elif len(logits) > 1 and self.cfg.combine in ("consensus", "vote"):
            self.warn_of_no_gradient()
            log_probs = _log_probs(logits)
            if self.cfg.combine == "vote":
                return CtcPrediction(*vote(log_probs, log_q, net_output["lengths"], self.blank))
            layer = consensus_layer(log_probs, log_q, net_output["lengths"], self.blank)
            return CtcPrediction(pick_layer(log_probs, layer), layer)
        else:
            layer = None
        return CtcPrediction(self.combined(net_output), layer)

    def layer_log_probs(self, net_output: Dict[str, Any]) -> List[Tensor]:
        """What the layers vote with: L tensors [T, B, V], at least float32."""
        return _log_probs(self._weigh_blank(net_output)["layer_logits"])

    def get_logits(self, net_output: Dict[str, Any], normalize: bool = False) -> Tensor:
        """The combined prediction, log-probabilities [T, B, V] (`normalize` asks for what
        is always so). Padding frames predict blank, as fairseq's decoder wants it."""
        log_probs = self.predict(net_output).log_probs
        if net_output["padding_mask"] is not None:
            silence = log_probs.new_full((log_probs.shape[-1],), float("-inf"))
            silence[self.blank] = 0
            padding = net_output["padding_mask"].t().unsqueeze(-1)
            log_probs = torch.where(padding, silence, log_probs)
        return log_probs

    def _weigh_blank(self, net_output: Dict[str, Any]) -> Dict[str, Any]:
        """As fairseq does to the logits of its one layer, to those of each."""
        if self.cfg.blank_weight == 0:
            return net_output
        blank = torch.arange(net_output["layer_logits"][0].shape[-1]) == self.blank
        blank = blank.to(net_output["log_q"].device)
        weight = self.cfg.blank_weight
        if self.cfg.blank_mode == "add":
            weighed = [torch.where(blank, x + weight, x) for x in net_output["layer_logits"]]
        else:
            weighed = [x.masked_fill(blank, weight) for x in net_output["layer_logits"]]
        return {**net_output, "layer_logits": weighed}

    def get_normalized_probs(
        self, net_output: Dict[str, Any], log_probs: bool, sample: Any = None
    ) -> Tensor:
        """As fairseq's CTC models: [T, B, V], log-probabilities or probabilities."""
        result = self.get_logits(net_output)
        return result if log_probs else result.exp()


def _keep_whole_files(task: Any) -> None:
    """Its defaults are for pre-training: a batch is cut to its shortest file, labels are not."""
    if not isinstance(task, HubertPretrainingTask) or not task.cfg.fine_tuning:
        return
    if not task.cfg.pad_audio or task.cfg.random_crop:
        task.cfg.pad_audio, task.cfg.random_crop = True, False
        logger.info("task.fine_tuning=true: using task.pad_audio=true task.random_crop=false")


def _log_probs(logits: Sequence[Tensor]) -> List[Tensor]:
    return [layer.float().log_softmax(-1) for layer in logits]
