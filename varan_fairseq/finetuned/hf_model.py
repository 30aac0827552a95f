"""VARAN for transformers: what every layer says, how much each counts, and the prediction of all.

    AutoModelForCTC.from_pretrained(FOLDER, trust_remote_code=True)

`varan-export hf --all-layers` writes this file as modeling_varan.py, beside the modules of the method
that it imports. It needs torch, numpy and transformers.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from ..method.aggregation import build_aggregation
from ..method.combine import combine, likeliest_layer, pick_layer
from ..method.consensus import consensus_layer
from ..method.vote import vote


class VaranConfig(PretrainedConfig):
    """encoder: config.json of transformers' encoder. reading: arguments of `build_aggregation`. rule:
    how layers become one prediction. decode_layer: predict from this one alone, 1 (lowest) .. L; 0 for
    all. layers: L, or 1 of a reading with one head."""

    model_type = "varan"

    def __init__(
        self,
        encoder: Optional[Dict[str, Any]] = None,
        reading: Optional[Dict[str, Any]] = None,
        rule: str = "vote",
        decode_layer: int = 0,
        layers: int = 1,
        **kwargs: Any,
    ):
        self.encoder, self.reading = encoder or {}, reading or {}
        self.rule, self.decode_layer, self.layers = rule, decode_layer, layers
        super().__init__(**kwargs)


@dataclass
class VaranOutput(ModelOutput):
    """logits: the prediction, log-probabilities [B, T, V], or [B, C] of a classifier. layer_logits: of
    each layer, [B, L, T, V] or [B, L, C]. log_q: how much each counts, [B, L]. lengths: [B], valid
    frames; behind them the prediction is blank."""

    logits: Optional[Tensor] = None
    layer_logits: Optional[Tensor] = None
    log_q: Optional[Tensor] = None
    lengths: Optional[Tensor] = None


class _Varan(PreTrainedModel):
    config_class = VaranConfig
    main_input_name = "input_values"
    _tied_weights_keys: List[str] = []

    def __init__(self, config: VaranConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder))
        self.aggregation = build_aggregation(**config.reading)
        self.register_buffer("prior", torch.full((config.layers,), 1 / config.layers))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """All weights come from the file."""

    def forward(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> VaranOutput:
        """input_values: [B, samples]. attention_mask: the same shape, 0 in the padding. Utterances are
        computed one by one, since padding would change what transformers makes of them."""
        if attention_mask is None:
            samples = [input_values.shape[1]] * len(input_values)
        else:
            samples = attention_mask.sum(1).long().tolist()
        return self._joined([self._alone(x[None, :n]) for x, n in zip(input_values, samples)])

    def _alone(self, source: Tensor) -> Dict[str, Tensor]:
        encoded = self.encoder(source, output_hidden_states=True)
        states = [*encoded.hidden_states[1:-1], encoded.last_hidden_state]
        reading = self.aggregation([s.transpose(0, 1) for s in states], None, self.prior)
        layers = [logits.float().log_softmax(-1) for logits in reading.logits]
        return {
            "logits": self._prediction(layers, reading.log_q),
            "layer_logits": torch.stack(layers),
            "log_q": reading.log_q[0],
        }

    def _prediction(self, layers: List[Tensor], log_q: Tensor) -> Tensor:
        """layers: log-probabilities [T, 1, V] each, or [1, C]."""
        rule = self.config.rule
        if self.config.decode_layer or len(layers) == 1:
            return layers[max(self.config.decode_layer, 1) - 1]
        if rule == "best_layer":
            return pick_layer(layers, likeliest_layer(log_q))
        if rule in ("vote", "consensus"):
            lengths = torch.full((1,), len(layers[0]), device=log_q.device)
            if rule == "vote":
                return vote(layers, log_q, lengths, 0)[0]
            return pick_layer(layers, consensus_layer(layers, log_q, lengths, 0))
        return combine(layers, log_q, rule)

    def _joined(self, rows: List[Dict[str, Tensor]]) -> VaranOutput:
        raise NotImplementedError


class VaranForCTC(_Varan):
    """Label 0 is the blank."""

    def _joined(self, rows: List[Dict[str, Tensor]]) -> VaranOutput:
        lengths = torch.tensor([len(row["logits"]) for row in rows])
        vocabulary = rows[0]["logits"].shape[-1]
        shape = (len(rows), int(lengths.max()), vocabulary)
        logits = rows[0]["logits"].new_full(shape, float("-inf"))
        logits[..., 0] = 0
        layers = logits[:, None].repeat(1, len(rows[0]["layer_logits"]), 1, 1)
        for index, row in enumerate(rows):
            logits[index, : lengths[index]] = row["logits"][:, 0]
            layers[index, :, : lengths[index]] = row["layer_logits"][:, :, 0]
        log_q = torch.stack([row["log_q"] for row in rows])
        return VaranOutput(logits, layers, log_q, lengths.to(log_q.device))


class VaranForAudioClassification(_Varan):
    """One prediction per utterance."""

    def _joined(self, rows: List[Dict[str, Tensor]]) -> VaranOutput:
        return VaranOutput(
            torch.cat([row["logits"] for row in rows]),
            torch.stack([row["layer_logits"][:, 0] for row in rows]),
            torch.stack([row["log_q"] for row in rows]),
        )
