"""Options that every model of ours has beside those of fine-tuning, and their check."""

from dataclasses import dataclass
from typing import Any, Optional, Sequence

from omegaconf import II

from ..data.augment import KINDS, Augment, parse_kinds
from ..method.choices import ACTIVATIONS, AGGREGATIONS, POSTERIORS, RULES, check_rule
from ..method.heads import check_head
from ..runtime.fairseq_compat import option_or
from ..upstream import Encoder
from .fields import check_choices, option
from .finetune import FinetuneConfig, finetune_mode


@dataclass
class LayerwiseConfig(FinetuneConfig):
    """Keys of any model that reads an encoder's layers; a model adds fairseq's own
    fine-tuning keys, with their names and meaning."""

    aggregation: str = option(
        "varan", "how the layers are read", choices=AGGREGATIONS, shapes="reading"
    )
    posterior: str = option(
        "input",
        "what varan's weights of the layers depend on (static: learned, the same for every input; "
        "prior: nothing)",
        choices=POSTERIORS,
        shapes="reading",
        younger=True,
    )
    posterior_heads: int = option(
        16, "attention heads of the layer posterior; must divide the width", shapes="reading"
    )
    layer_embedding: bool = option(
        False, "tell the posterior which layer is which", shapes="reading"
    )
    posterior_lr_multiplier: float = option(
        0.1, "step of the posterior, as a multiple of the learning rate"
    )
    posterior_centred: bool = option(
        True, "a posterior that has learned nothing is the prior, not uniform"
    )
    keep_layers: int = option(0, "train the lowest so many blocks, without those above; 0 for all")
    encoder_heads: int = option(
        0,
        "attention heads of an encoder whose file does not say it, as fairseq2's (0: 12 in base, 16 in "
        "larger ones)",
    )
    augment: str = option(
        "none",
        f"what training does to the waveform: {', '.join(KINDS)}, several by commas; or none",
        younger=True,
    )
    augment_prob: float = option(
        0.5, "share of the utterances that each kind of augmentation changes", younger=True
    )
    head_dim: int = option(0, "bottleneck width of the probing heads; 0 for none", shapes="reading")
    head_activation: str = option(
        "none",
        "between the two maps of a head with a head_dim",
        choices=ACTIVATIONS,
        shapes="reading",
        younger=True,
    )
    shared_head: bool = option(False, "one probing head for all layers", shapes="reading")
    layer_norm: str = option(
        "auto",
        "a LayerNorm a layer before pooling and heads (auto: for encoders whose blocks return the "
        "raw residual stream)",
        choices=("auto", "true", "false"),
        shapes="reading",
    )
    mask_group_norm: bool = option(
        True,
        "leave padding out of the statistics of the feature encoder's group norm, as no padding was "
        "in pre-training (false: as fairseq fine-tunes)",
    )
    combine: str = option(
        "mixture", f"how predictions of the layers become one: {', '.join(RULES)}"
    )
    decode_layer: int = option(0, "predict from this layer alone, 1 (lowest) .. L; 0 combines all")
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")


def augmentation(cfg: Any) -> Optional[Augment]:
    """Of the training; None for none. Raises ValueError for options that are none."""
    kinds = parse_kinds(option_or(cfg, "augment", "none"))
    return Augment(kinds, option_or(cfg, "augment_prob", 0.5), cfg.normalize) if kinds else None


def check_options(cfg: Any, rules: Sequence[str]) -> None:
    """Raises ValueError for what no model can be built of. rules: that `cfg.combine` may be."""
    check_rule(cfg.combine, rules)
    check_choices(cfg, LayerwiseConfig)
    finetune_mode(cfg)
    augmentation(cfg)
    check_head(cfg.head_dim, cfg.head_activation, option_or(cfg, "head_context", 0))
    if cfg.posterior != "input" and cfg.aggregation != "varan":
        raise ValueError(
            f"model.posterior={cfg.posterior} is for model.aggregation=varan, here it is "
            f"{cfg.aggregation}: leave it out"
        )


def layer_norm(choice: str, encoder: Encoder) -> bool:
    """What `cfg.layer_norm` means for an encoder."""
    return {"auto": encoder.raw_states, "true": True, "false": False}[choice.lower()]
