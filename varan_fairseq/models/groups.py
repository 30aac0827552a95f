"""Groups of parameters with learning rates of their own, for fairseq's optimizer `composite`."""

from typing import Any

from torch import nn

from ..lora import KEYS as LORA_KEYS


def group_of(name: str) -> str:
    """encoder, factors (low-rank ones and magnitudes), posterior, or heads, which is whatever
    else reads the layers. name: of a fine-tuning model's parameter."""
    parts = name.split(".")
    if parts[0] == "aggregation":
        return "posterior" if parts[1] == "posterior" else "heads"
    return "factors" if parts[-1] in LORA_KEYS else "encoder"


def set_groups(model: nn.Module) -> None:
    """Tells `composite` the group of every parameter."""
    for name, parameter in model.named_parameters():
        parameter.param_group = group_of(name)
        # data2vec 2.0's for its pre-training; fairseq wants them the same in a group
        parameter.__dict__.pop("optim_overrides", None)


def check_groups(whole: Any, model: nn.Module) -> None:
    """Raises ValueError if a run's `composite` optimizer has other groups than the model, which
    fairseq would find out later and say less clearly. whole: fairseq's configuration."""
    optimizer = whole.optimizer
    if (
        optimizer is None
        or optimizer._name != "composite"
        or getattr(optimizer, "dynamic_groups", False)
    ):
        return
    ours = {group_of(name) for name, p in model.named_parameters() if p.requires_grad}
    theirs = set(optimizer.groups)
    if theirs != ours:
        raise ValueError(
            f"optimizer.groups has {', '.join(sorted(theirs)) or 'none'}, but what trains is "
            f"{', '.join(sorted(ours))} (optimizer._name=composite): give each of them a group, and "
            "no other"
        )
    if whole.common.fp16 and not whole.common.fp16_no_flatten_grads:
        raise ValueError(
            "optimizer._name=composite with common.fp16=true needs common.fp16_no_flatten_grads=true: "
            "one flat gradient has no groups"
        )
