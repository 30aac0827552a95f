"""Options that every model of ours has beside those of fine-tuning, and their check."""

from dataclasses import dataclass, field
from typing import Any, Sequence

from omegaconf import II

from ..method.aggregation import AGGREGATIONS, POSTERIORS
from ..method.combine import RULES, check_rule
from ..method.heads import check_head
from ..upstream import Encoder
from .finetune import FinetuneConfig, finetune_mode


@dataclass
class LayerwiseConfig(FinetuneConfig):
    """Keys of any model that reads an encoder's layers; a model adds fairseq's own
    fine-tuning keys, with their names and meaning."""

    aggregation: str = field(
        default="varan",
        metadata={"help": f"how the layers are read: {', '.join(AGGREGATIONS)}"},
    )
    posterior: str = field(
        default="input",
        metadata={
            "help": "what varan's weights of the layers depend on: input, static (learned, the "
            "same for every input) or prior (nothing)"
        },
    )
    posterior_heads: int = field(
        default=16,
        metadata={"help": "attention heads of the layer posterior; must divide the width"},
    )
    layer_embedding: bool = field(
        default=False, metadata={"help": "tell the posterior which layer is which"}
    )
    posterior_lr_multiplier: float = field(
        default=0.1,
        metadata={"help": "step of the posterior, as a multiple of the learning rate"},
    )
    posterior_centred: bool = field(
        default=True,
        metadata={"help": "a posterior that has learned nothing is the prior, not uniform"},
    )
    keep_layers: int = field(
        default=0,
        metadata={"help": "train the lowest so many blocks, without those above; 0 for all"},
    )
    head_dim: int = field(
        default=0, metadata={"help": "bottleneck width of the probing heads; 0 for none"}
    )
    head_activation: str = field(
        default="none",
        metadata={"help": "between the two maps of a head with a head_dim: none or relu"},
    )
    shared_head: bool = field(default=False, metadata={"help": "one probing head for all layers"})
    layer_norm: str = field(
        default="auto",
        metadata={
            "help": "a LayerNorm a layer before pooling and heads: true, false, or auto, "
            "which means true for encoders whose blocks return the raw residual stream"
        },
    )
    mask_group_norm: bool = field(
        default=True,
        metadata={
            "help": "leave padding out of the statistics of the feature encoder's group norm, as "
            "no padding was in pre-training (false: as fairseq fine-tunes)"
        },
    )
    combine: str = field(
        default="mixture",
        metadata={"help": f"how predictions of the layers become one: {', '.join(RULES)}"},
    )
    decode_layer: int = field(
        default=0,
        metadata={"help": "predict from this layer alone, 1 (lowest) .. L; 0 combines all"},
    )
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")


def check_options(cfg: Any, rules: Sequence[str]) -> None:
    """Raises ValueError for what no model can be built of. rules: that `cfg.combine` may be."""
    check_rule(cfg.combine, rules)
    finetune_mode(cfg)
    if cfg.aggregation not in AGGREGATIONS:
        raise ValueError(
            f"model.aggregation={cfg.aggregation}: choose one of {', '.join(AGGREGATIONS)}"
        )
    check_head(cfg.head_dim, cfg.head_activation)
    if cfg.posterior not in POSTERIORS:
        raise ValueError(f"model.posterior={cfg.posterior}: choose one of {', '.join(POSTERIORS)}")
    if cfg.posterior != "input" and cfg.aggregation != "varan":
        raise ValueError(
            f"model.posterior={cfg.posterior} is for model.aggregation=varan, here it is "
            f"{cfg.aggregation}: leave it out"
        )


def layer_norm(option: str, encoder: Encoder) -> bool:
    """What `cfg.layer_norm` means for an encoder. Raises ValueError."""
    choices = {"auto": encoder.raw_states, "true": True, "false": False}
    if option.lower() not in choices:
        raise ValueError(f"model.layer_norm={option}: choose one of {', '.join(choices)}")
    return choices[option.lower()]
