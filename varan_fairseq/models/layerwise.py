"""What our fine-tuning models share: a pre-trained encoder, read by an aggregation."""

import logging
from typing import Any, Dict, Optional, Sequence

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ..adapters.of_model import load_adapter
from ..data.findings import Split
from ..method.aggregation import build_aggregation
from ..method.choices import RULES
from ..method.combine import combine, likeliest_layer, pick_layer
from ..method.posterior import LayerPosterior, as_released
from ..method.prior import LayerPrior
from ..runtime.fairseq_compat import forget_last_run
from ..upstream import Encoder, EncoderOutput, load_encoder
from .finetune import adapt_encoder, finetune_mode, log_parameters, set_groups
from .options import augmentation, check_options, layer_norm
from .preflight import check_before, check_model, write_to_run

logger = logging.getLogger(__name__)


class LayerwiseModel(BaseFairseqModel):
    """An `upstream.Encoder`, a `method.aggregation` and the prior they were trained with.

    cfg: extends `options.LayerwiseConfig` and fairseq's `Wav2Vec2AsrConfig`. num_classes: outputs
    of a head. pooled: one prediction an utterance instead of one a frame. head_context: see
    `heads.probing_head`.
    """

    rules: Sequence[str] = RULES  # what `cfg.combine` may be

    def __init__(
        self, cfg: Any, encoder: Encoder, num_classes: int, pooled: bool, head_context: int = 0
    ):
        super().__init__()
        self.cfg = cfg
        self.finetune = finetune_mode(cfg)
        self.warned = False
        self.w2v_encoder = encoder
        self.augment = augmentation(cfg)
        self.aggregation: Any = build_aggregation(
            cfg.aggregation,
            num_layers=encoder.num_layers,
            dim=encoder.dim,
            num_classes=num_classes,
            shared_head=cfg.shared_head,
            head_dim=cfg.head_dim,
            head_activation=cfg.head_activation,
            head_context=head_context,
            dropout=cfg.final_dropout,
            layer_norm=layer_norm(cfg.layer_norm, encoder),
            posterior=cfg.posterior,
            posterior_heads=cfg.posterior_heads,
            layer_embedding=cfg.layer_embedding,
            posterior_lr_multiplier=cfg.posterior_lr_multiplier,
            posterior_centred=cfg.posterior_centred,
            pooled=pooled,
        )
        self.num_predictions = encoder.num_layers if cfg.aggregation == "varan" else 1
        if not 0 <= cfg.decode_layer <= self.num_predictions:
            raise ValueError(
                f"model.decode_layer={cfg.decode_layer}: aggregation {cfg.aggregation} over "
                f"{encoder.num_layers} layers has predictions 1 .. {self.num_predictions} "
                "(0 for all)"
            )
        # Set by the criterion, which owns its kind, before the first forward pass; kept here
        # because the posterior is centred on it, and so that checkpoints carry it.
        self.prior = LayerPrior(self.num_predictions)
        set_groups(self)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "LayerwiseModel":
        """Checks options and data, then reads the encoder and adapts it. Raises ValueError
        or FileNotFoundError with one line that names what is wrong."""
        if cfg.w2v_args is not None:  # of a fine-tuned checkpoint: the caller loads the weights
            check_options(cfg, cls.rules)
            return cls._built(cfg, task)
        forget_last_run()
        checked = check_before(cfg, task, cls.rules, cls.check_data)
        model = cls._built(cfg, task)
        check_model(model, checked, task)
        write_to_run(checked, cfg, task)
        if checked.adapter is not None:
            load_adapter(model, checked.adapter, task.target_dictionary)
            logger.info("starting from adapter %s", cfg.adapter)
        log_parameters(model)
        return model

    @classmethod
    def _built(cls, cfg: Any, task: Any) -> "LayerwiseModel":
        encoder = load_encoder(cfg)
        adapt_encoder(encoder, cfg)
        return cls.on_encoder(cfg, encoder, task)

    @classmethod
    def on_encoder(cls, cfg: Any, encoder: Encoder, task: Any) -> "LayerwiseModel":
        """The model that cfg and task ask for, on an encoder."""
        raise NotImplementedError

    @classmethod
    def check_data(cls, cfg: Any, task: Any, names: Sequence[str]) -> Sequence[Split]:
        """Checks splits, of which the first trains, before the (long) work begins; every process
        calls it. Returns them as the first one read them."""
        raise NotImplementedError

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str) -> None:
        """fairseq calls this before it loads weights. Those of a posterior keep the meaning
        they were trained with, whatever this model's options say."""
        super().upgrade_state_dict_named(state_dict, name)
        if not isinstance(getattr(self.aggregation, "posterior", None), LayerPosterior):
            return
        prefix = "aggregation.posterior."
        as_released(state_dict, prefix)
        for option in ("lr_multiplier", "centred"):
            stored = float(state_dict[prefix + option])
            own = float(getattr(self.aggregation.posterior, option))
            if stored != own:
                logger.warning(
                    "the weights were trained with model.posterior_%s=%g, which stays so: %g is "
                    "for new runs",
                    option,
                    stored,
                    own,
                )

    def forward(
        self, source: Tensor, padding_mask: Optional[Tensor] = None, **unused
    ) -> Dict[str, Any]:
        """source: [B, samples], padding_mask: [B, samples] bool or None. Returns layer_logits: K
        tensors [T, B, V], or [B, C] if pooled; log_q: [B, K]; padding_mask: [B, T] or None;
        lengths: [B], valid frames; means: [B, K, D] or None. K is the number of layers for
        `varan`, else 1."""
        if self.training and self.augment is not None:
            source, padding_mask = self.augment(source, padding_mask)
        return self.read(self.w2v_encoder(source, padding_mask))

    def read(self, encoded: EncoderOutput) -> Dict[str, Any]:
        """What `forward` returns, of what the encoder did."""
        reading = self.aggregation(
            encoded.states[:-1] + [encoded.output], encoded.padding_mask, self.prior.probs
        )
        return {
            "layer_logits": reading.logits,
            "log_q": reading.log_q,
            "means": reading.means,
            "padding_mask": encoded.padding_mask,
            "lengths": encoded.lengths,
        }

    def keep_lowest(self, layers: int) -> None:
        """Drops the blocks above the lowest `layers`, with what reads them; the prior is cut and
        renormalised. What remains computes what it did. Raises ValueError where it could not."""
        encoder, cfg = self.w2v_encoder, self.cfg
        if cfg.aggregation != "varan":
            raise ValueError(
                f"model.aggregation={cfg.aggregation} has one head, which reads the last layer or "
                "a sum of all: only varan has a head at every depth"
            )
        if bool(len(self.aggregation.norms.norms)) != encoder.raw_states:
            raise ValueError(
                f"it was trained with model.layer_norm={cfg.layer_norm}: with a LayerNorm where "
                f"{encoder.spec.title} has its own, or without where it has none, no layer can "
                "become the last (auto can)"
            )
        if not encoder.raw_states and encoder.spec.final_norm(encoder.w2v_model) is not None:
            raise ValueError(
                f"{encoder.spec.title} with layer_norm_first=true ends in a LayerNorm that its lower "
                "layers were read without: none of them can become the last"
            )
        if layers == encoder.num_layers:
            raise ValueError(f"the encoder has {layers} blocks: nothing to cut")
        if cfg.decode_layer > layers > 0:
            raise ValueError(f"it predicts from layer {cfg.decode_layer} (model.decode_layer)")
        norms = self.aggregation.norms.norms
        encoder.keep_lowest(layers, norms[layers - 1] if 0 < layers <= len(norms) else None)
        self.aggregation.keep_lowest(layers)
        self.prior.keep_lowest(layers)
        self.num_predictions = layers

    def at_depth(self, net_output: Dict[str, Any], layers: int) -> Dict[str, Any]:
        """What the model without the blocks above so many `layers` would have returned
        (`keep_lowest`), for aggregation varan."""
        prior = self.prior.probs[:layers] / self.prior.probs[:layers].sum()
        means = net_output["means"][:, :layers]
        log_q = self.aggregation.posterior(means, prior)
        logits = net_output["layer_logits"][:layers]
        return {**net_output, "layer_logits": logits, "log_q": log_q, "means": means}

    def combined(self, net_output: Dict[str, Any]) -> Tensor:
        """Log-probabilities [T, B, V], or [B, C] if pooled, by `cfg.combine` or
        `cfg.decode_layer`, at least float32."""
        logits = net_output["layer_logits"]
        if self.cfg.decode_layer or len(logits) == 1:
            return logits[max(self.cfg.decode_layer, 1) - 1].float().log_softmax(-1)
        log_q = net_output["log_q"]
        if self.cfg.combine == "best_layer":
            self.warn_of_no_gradient()
            return pick_layer(logits, likeliest_layer(log_q)).float().log_softmax(-1)
        log_probs = (layer.float().log_softmax(-1) for layer in logits)
        return combine(log_probs, log_q, self.cfg.combine)

    def warn_of_no_gradient(self) -> None:
        """Once, if a rule that picks a layer is trained on, as by fairseq's own criterion."""
        if self.training and torch.is_grad_enabled() and not self.warned:
            self.warned = True
            logger.warning(
                "training on the combined prediction with model.combine=%s gives the posterior no "
                "gradient: use model.combine=mixture, or criterion._name=%s",
                self.cfg.combine,
                self.cfg._name,
            )
