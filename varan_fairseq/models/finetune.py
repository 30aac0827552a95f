"""What trains: `model.finetune`, the LoRA keys, and the table of parameters in the log."""

import fnmatch
import logging
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Set

from fairseq.dataclass import FairseqDataclass
from torch import nn

from ..adapters.parts import parameter_group
from ..lora import KEYS as LORA_KEYS
from ..lora import apply_lora, check_lora, lora_parameters, match_linears, set_trainable
from ..method.choices import check_choice
from ..upstream import Encoder
from ..upstream.specs import EncoderSpec
from .fields import option

logger = logging.getLogger(__name__)

MODES = ("full", "lora", "probe")
EXTRAS = ("norms", "biases")


@dataclass
class FinetuneConfig(FairseqDataclass):
    """Keys that any fine-tuning model of ours has."""

    finetune: str = option(
        "auto",
        "what trains of the encoder (probe: nothing; auto: lora if lora_rank > 0, else full)",
        choices=("auto", *MODES),
    )
    lora_rank: int = option(0, "rank of the adapters; 0 for none", shapes="lora")
    lora_alpha: float = option(16.0, "adapters are scaled by lora_alpha / lora_rank", shapes="lora")
    lora_dropout: float = option(0.0, "dropout before the adapters of layers that are called")
    lora_targets: str = option(
        "ffn",
        "what is adapted: ffn, attention, all (both), or glob patterns over the names of linear "
        "layers, separated by commas, as encoder.layers.1?.fc2",
        shapes="lora",
    )
    lora_magnitude: bool = option(False, "DoRA: learned magnitudes too", shapes="lora")
    lora_extra: str = option(
        "none",
        "what else of the transformer trains beside LoRA: none, norms, biases, or norms,biases",
    )
    adapter: Optional[str] = option(None, "folder of an adapter (see varan-export) to start from")


def finetune_mode(cfg: Any) -> str:
    """One of `MODES`. Raises ValueError for options that are unknown or contradict each other."""
    check_choice("model.finetune", cfg.finetune, ("auto", *MODES))
    if cfg.lora_rank < 0:
        raise ValueError(f"model.lora_rank={cfg.lora_rank}: expected 0 (no adapters) or more")
    extras = _extras(cfg)
    if cfg.lora_rank:
        check_lora(cfg.lora_rank, cfg.lora_alpha, cfg.lora_dropout)
    elif cfg.lora_magnitude or extras:
        raise ValueError(
            f"model.lora_magnitude={cfg.lora_magnitude} and model.lora_extra={cfg.lora_extra} mean "
            "nothing without adapters: set model.lora_rank=16, say, or leave them out"
        )
    mode = cfg.finetune
    if mode == "auto":
        mode = "lora" if cfg.lora_rank else "full"
    if mode == "lora" and not cfg.lora_rank:
        raise ValueError("model.finetune=lora, but model.lora_rank=0: set model.lora_rank=16, say")
    if mode != "lora" and cfg.lora_rank:
        raise ValueError(
            f"model.finetune={mode}, but model.lora_rank={cfg.lora_rank}: set model.lora_rank=0, or "
            "model.finetune=lora"
        )
    if mode == "probe" and cfg.feature_grad_mult > 0:
        raise ValueError(
            f"model.finetune=probe trains nothing of the encoder, but model.feature_grad_mult="
            f"{cfg.feature_grad_mult} asks for its feature encoder: set model.feature_grad_mult=0"
        )
    return mode


def adapt_encoder(encoder: Encoder, cfg: Any) -> None:
    """Adds the adapters that `cfg` asks for and decides which parameters train.

    The feature encoder trains only with feature_grad_mult > 0. What freeze_regex matches
    never trains. Raises ValueError.
    """
    mode = finetune_mode(cfg)
    model, spec = encoder.w2v_model, encoder.spec
    if mode == "probe":
        encoder.freeze()
        return
    if mode == "lora":
        apply_lora(
            model,
            _targets(model, spec, cfg),
            rank=cfg.lora_rank,
            alpha=cfg.lora_alpha,
            dropout=cfg.lora_dropout,
            magnitude=cfg.lora_magnitude,
        )
    # some encoders have constants among their parameters, as data2vec 2.0 its ALiBi scale
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    features = {name for name in names if name.startswith(spec.features)}
    trained = names - features
    if mode == "lora":
        trained &= set(lora_parameters(model)) | _extra_names(model, cfg)
    if cfg.feature_grad_mult > 0:
        trained |= features
    pattern = getattr(cfg, "freeze_regex", None)
    if pattern is not None:  # fairseq's patterns begin at its encoder wrapper, as ours
        trained = {name for name in trained if not re.fullmatch(pattern, f"w2v_model.{name}")}
    set_trainable(model, trained)


def _targets(model: nn.Module, spec: EncoderSpec, cfg: Any) -> List[str]:
    """Names of the layers to adapt."""
    groups = {**spec.linears, "all": sum(spec.linears.values(), ())}
    patterns = groups.get(cfg.lora_targets) or cfg.lora_targets.replace(" ", "").split(",")
    try:
        names = match_linears(model, patterns)
    except ValueError as error:
        raise ValueError(
            f"model.lora_targets={cfg.lora_targets}: {error} (or say {', '.join(groups)})"
        ) from None
    if cfg.lora_dropout:
        clash = [name for name in names if _any_match(name, spec.weight_readers)]
        if clash:
            raise ValueError(
                f"model.lora_dropout={cfg.lora_dropout} is not possible with model.lora_targets="
                f"{cfg.lora_targets}: LoRA drops inputs of a layer, but fairseq's attention reads "
                f"the weights of its projections ({min(clash)}, ..) and never calls them: set "
                "model.lora_dropout=0, or model.lora_targets=ffn"
            )
    return names


def _any_match(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _extras(cfg: Any) -> Set[str]:
    extras = set(cfg.lora_extra.replace(" ", "").split(",")) - {"none"}
    if extras - set(EXTRAS):
        raise ValueError(
            f"model.lora_extra={cfg.lora_extra}: choose none, {', '.join(EXTRAS)}, or "
            f"{','.join(EXTRAS)}"
        )
    return extras


def _extra_names(model: nn.Module, cfg: Any) -> Set[str]:
    extras, names = _extras(cfg), set()
    for prefix, module in model.named_modules():
        group = "norms" if "Norm" in type(module).__name__ else "biases"
        for name, _ in module.named_parameters(recurse=False):
            if group in extras and (group == "norms" or name == "bias"):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def log_parameters(model: Any) -> None:
    """Logs how many parameters train, in all and by group. model: has `w2v_encoder` and
    `aggregation`."""
    trained: Dict[str, int] = Counter()
    total: Dict[str, int] = Counter()
    for name, parameter in model.named_parameters():
        group = parameter_group(name, model.w2v_encoder.spec.features)
        total[group] += parameter.numel()
        trained[group] += parameter.numel() * parameter.requires_grad
    everything, training = sum(total.values()), sum(trained.values())
    share = 100 * training / everything
    logger.info("trained parameters: %s of %s (%.1f%%)", f"{training:,}", f"{everything:,}", share)
    for group in total:
        logger.info("  %-17s %13s of %13s", group, f"{trained[group]:,}", f"{total[group]:,}")


def group_of(name: str) -> str:
    """encoder, factors (low-rank ones and magnitudes), posterior, or heads, which is whatever
    else reads the layers. name: of a fine-tuning model's parameter."""
    parts = name.split(".")
    if parts[0] == "aggregation":
        return "posterior" if parts[1] == "posterior" else "heads"
    return "factors" if parts[-1] in LORA_KEYS else "encoder"


def set_groups(model: Any) -> None:
    """Tells `composite` the group of every parameter."""
    for name, parameter in model.named_parameters():
        parameter.param_group = group_of(name)
        # data2vec 2.0's for its pre-training; fairseq wants them the same in a group
        parameter.__dict__.pop("optim_overrides", None)


def check_groups(whole: Any, model: nn.Module) -> None:
    """Puts what a run's `composite` optimizer has no group for into its group `default`, if it has
    one, as fairseq does with parameters of no group. Raises ValueError if its groups are not those of
    the model, which fairseq would find out later and say less clearly. whole: fairseq's
    configuration."""
    optimizer = whole.optimizer
    if optimizer is None or optimizer._name != "composite":
        return
    theirs = set(optimizer.groups)
    trained = [p for p in model.parameters() if p.requires_grad]
    if "default" in theirs:
        for parameter in trained:
            if getattr(parameter, "param_group", "default") not in theirs:
                parameter.param_group = "default"  # type: ignore[attr-defined]
    ours = {getattr(parameter, "param_group", "default") for parameter in trained}
    dynamic = getattr(optimizer, "dynamic_groups", False)  # then a group may have no parameters
    if not (ours <= theirs if dynamic else ours == theirs):
        raise ValueError(
            f"optimizer.groups has {', '.join(sorted(theirs)) or 'none'}, but what trains is "
            f"{', '.join(sorted(ours))} (optimizer._name=composite): give each of them a group, and "
            "no other, or all of them the one group default"
        )
    if whole.common.fp16 and not whole.common.fp16_no_flatten_grads:
        raise ValueError(
            "optimizer._name=composite with common.fp16=true needs common.fp16_no_flatten_grads=true: "
            "one flat gradient has no groups"
        )
