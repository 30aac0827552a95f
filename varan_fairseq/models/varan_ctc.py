"""Model `varan_ctc`: a pre-trained encoder, read by an aggregation, for CTC."""

import logging
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel, register_model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from omegaconf import II
from torch import Tensor

from ..adapter import read_adapter
from ..manifest import check_split
from ..method.aggregation import AGGREGATIONS, build_aggregation
from ..method.combine import RULES, check_rule, combine
from ..method.prior import LayerPrior
from ..upstream import Encoder, load_encoder
from .adapters import load_adapter
from .finetune import FinetuneConfig, adapt_encoder, finetune_mode, log_parameters

logger = logging.getLogger(__name__)


@dataclass
class VaranCtcConfig(FinetuneConfig, Wav2Vec2CtcConfig):
    """fairseq's CTC fine-tuning keys with their names and meaning, those of
    `FinetuneConfig`, and the keys below."""

    aggregation: str = field(
        default="varan",
        metadata={"help": f"how the layers are read: {', '.join(AGGREGATIONS)}"},
    )
    posterior_heads: int = field(
        default=16,
        metadata={"help": "attention heads of the layer posterior; must divide the width"},
    )
    layer_embedding: bool = field(
        default=False, metadata={"help": "tell the posterior which layer is which"}
    )
    head_dim: int = field(
        default=0, metadata={"help": "bottleneck width of the probing heads; 0 for none"}
    )
    shared_head: bool = field(default=False, metadata={"help": "one probing head for all layers"})
    layer_norm: str = field(
        default="auto",
        metadata={
            "help": "a LayerNorm a layer before pooling and heads: true, false, or auto, "
            "which means true for encoders that normalise before the block"
        },
    )
    combine: str = field(
        default="best_layer",
        metadata={"help": f"how predictions of the layers become one: {', '.join(RULES)}"},
    )
    decode_layer: int = field(
        default=0,
        metadata={"help": "predict from this layer alone, 1 (lowest) .. L; 0 combines all"},
    )
    check_audio: bool = field(
        default=True,
        metadata={"help": "read the header of every audio file before training starts"},
    )
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")


@register_model("varan_ctc", dataclass=VaranCtcConfig)
class VaranCtc(BaseFairseqModel):
    """An `upstream.Encoder`, a `method.aggregation` and the prior they were trained with.

    cfg: `VaranCtcConfig`. num_classes: labels of the dictionary, blank included. blank:
    index of the blank.
    """

    def __init__(self, cfg: VaranCtcConfig, encoder: Encoder, num_classes: int, blank: int = 0):
        super().__init__()
        self.cfg = cfg
        self.blank = blank
        self.warned = False
        self.w2v_encoder = encoder
        self.aggregation = build_aggregation(
            cfg.aggregation,
            num_layers=encoder.num_layers,
            dim=encoder.dim,
            num_classes=num_classes,
            shared_head=cfg.shared_head,
            head_dim=cfg.head_dim,
            dropout=cfg.final_dropout,
            layer_norm=_layer_norm(cfg.layer_norm, encoder),
            posterior_heads=cfg.posterior_heads,
            layer_embedding=cfg.layer_embedding,
        )
        self.num_predictions = encoder.num_layers if cfg.aggregation == "varan" else 1
        if not 0 <= cfg.decode_layer <= self.num_predictions:
            raise ValueError(
                f"model.decode_layer={cfg.decode_layer}: aggregation {cfg.aggregation} over "
                f"{encoder.num_layers} layers has predictions 1 .. {self.num_predictions} "
                "(0 for all)"
            )
        # Set by the criterion, which owns its kind; kept here so that checkpoints carry it.
        self.prior = LayerPrior(self.num_predictions)

    @classmethod
    def build_model(cls, cfg: VaranCtcConfig, task: Any) -> "VaranCtc":
        """Checks options and data, then reads the encoder and adapts it. Raises ValueError
        or FileNotFoundError with one line that names what is wrong."""
        check_rule(cfg.combine)
        finetune_mode(cfg)
        if cfg.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"model.aggregation={cfg.aggregation}: choose one of {', '.join(AGGREGATIONS)}"
            )
        # Of a fine-tuned checkpoint, the caller loads the weights: nothing to read or check.
        fresh, adapter = cfg.w2v_args is None, None
        if fresh:
            adapter = read_adapter(cfg.adapter) if cfg.adapter else None
            _check_data(cfg, task)
        encoder = load_encoder(cfg)
        adapt_encoder(encoder, cfg)
        labels = task.target_dictionary
        blank = labels.index(getattr(task, "blank_symbol", "<s>"))
        model = cls(cfg, encoder, len(labels), blank)
        if adapter is not None:
            load_adapter(model, adapter, labels)
            logger.info("starting from adapter %s", cfg.adapter)
        if fresh:
            log_parameters(model)
        return model

    def forward(
        self, source: Tensor, padding_mask: Optional[Tensor] = None, **unused
    ) -> Dict[str, Any]:
        """source: [B, samples], padding_mask: [B, samples] bool or None. Returns
        layer_logits: K tensors [T, B, V]; log_q: [B, K]; padding_mask: [B, T] or None;
        lengths: [B], valid frames. K is the number of layers for `varan`, else 1."""
        encoded = self.w2v_encoder(source, padding_mask)
        reading = self.aggregation(encoded.states[:-1] + [encoded.output], encoded.padding_mask)
        return {
            "layer_logits": reading.logits,
            "log_q": reading.log_q,
            "padding_mask": encoded.padding_mask,
            "lengths": encoded.lengths,
        }

    def get_logits(self, net_output: Dict[str, Any], normalize: bool = False) -> Tensor:
        """The combined prediction, log-probabilities [T, B, V] (`normalize` asks for what
        is always so). Padding frames predict blank, as fairseq's decoder wants it."""
        logits = net_output["layer_logits"]
        if self.cfg.decode_layer or len(logits) == 1:
            log_probs = logits[max(self.cfg.decode_layer, 1) - 1].float().log_softmax(-1)
        else:
            if self.training and self.cfg.combine == "best_layer":
                self._warn_once()
            each = torch.stack([layer.float().log_softmax(-1) for layer in logits])
            log_probs = combine(each, net_output["log_q"], self.cfg.combine)
        if self.cfg.blank_weight != 0:
            log_probs = self._weigh_blank(log_probs)
        if net_output["padding_mask"] is not None:
            silence = log_probs.new_full((log_probs.shape[-1],), float("-inf"))
            silence[self.blank] = 0
            padding = net_output["padding_mask"].t().unsqueeze(-1)
            log_probs = torch.where(padding, silence, log_probs)
        return log_probs

    def _warn_once(self) -> None:
        if not self.warned:
            self.warned = True
            logger.warning(
                "training on the combined prediction with model.combine=best_layer gives the "
                "posterior no gradient: use model.combine=mixture, or criterion._name=varan_ctc"
            )

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


def _layer_norm(option: str, encoder: Encoder) -> bool:
    choices = {"auto": encoder.pre_norm, "true": True, "false": False}
    if option.lower() not in choices:
        raise ValueError(f"model.layer_norm={option}: choose one of {', '.join(choices)}")
    return choices[option.lower()]


def _check_data(cfg: VaranCtcConfig, task: Any) -> None:
    """Checks the data before the (long) work begins, in one process only."""
    if not isinstance(task, AudioPretrainingTask):
        logger.warning(
            "task %s does not store the encoder's configuration in checkpoints, so decoding will "
            "need model.w2v_path again: task._name=audio_finetuning makes them self-contained",
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
