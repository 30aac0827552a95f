"""Adapters and models: what of a model an adapter holds, and putting it back."""

from collections import Counter
from typing import Any, Dict

from fairseq.data import Dictionary
from fairseq.models import MODEL_DATACLASS_REGISTRY
from torch import Tensor

from ..data.labels import class_dictionary, first_difference
from .file import Adapter
from .metadata import shape_options
from .parts import parameter_group


def adapter_tensors(model: Any) -> Dict[str, Tensor]:
    """Everything but the frozen weights of the encoder: heads, posterior, prior, norms,
    low-rank factors, whatever trained."""
    frozen = {
        f"w2v_encoder.{name}"
        for name, parameter in model.w2v_encoder.named_parameters()
        if not parameter.requires_grad
    }
    return {key: value for key, value in model.state_dict().items() if key not in frozen}


def adapter_parts(model: Any, tensors: Dict[str, Tensor]) -> Dict[str, int]:
    """Numbers in each part (posterior, heads, ..) of what `adapter_tensors` returned."""
    parts: Dict[str, int] = Counter()
    for name, tensor in tensors.items():
        parts[parameter_group(name, model.w2v_encoder.spec.features)] += tensor.numel()
    return parts


def load_adapter(model: Any, adapter: Adapter, labels: Dictionary) -> None:
    """Puts an adapter on a model whose encoder holds the base's weights.

    Raises ValueError, before anything is loaded, if the base, the labels or the options
    that shape the model are not those the adapter was made with.
    """
    base, source = adapter.metadata["base"], model.cfg.w2v_args.source
    if source.sha256 != base["sha256"]:
        raise ValueError(
            f"adapter {adapter.folder} was trained on {base['file']} with SHA-256 "
            f"{base['sha256']}, but {source.file} has {source.sha256}: another base"
        )
    made_by = adapter.metadata["config"]["model"]["_name"]
    if made_by != model.cfg._name:
        raise ValueError(
            f"adapter {adapter.folder} was made with model {made_by}, this is {model.cfg._name}"
        )
    _check_labels(adapter, labels)
    _refuse_other_options(adapter, model.cfg)
    model.upgrade_state_dict(adapter.tensors)
    own = model.state_dict()
    surplus = [key for key in adapter.tensors if key not in own]
    missing = [
        key for key in own if key not in adapter.tensors and not key.startswith("w2v_encoder.")
    ]
    shapes = [
        f"{key} {tuple(tensor.shape)}, expected {tuple(own[key].shape)}"
        for key, tensor in adapter.tensors.items()
        if key in own and own[key].shape != tensor.shape
    ]
    if surplus or missing or shapes:
        raise ValueError(
            f"adapter {adapter.folder} does not fit this model: surplus {surplus or 'none'}, "
            f"missing {missing or 'none'}, shapes {shapes or 'equal'}"
        )
    model.load_state_dict(adapter.tensors, strict=False)


def adapter_labels(adapter: Adapter) -> Dictionary:
    """The dictionary of the labels it was trained with, as its task makes it."""
    if adapter.metadata["config"]["model"]["_name"] != "varan_ctc":
        return class_dictionary(adapter.metadata["labels"])
    labels = Dictionary()
    for symbol, count in adapter.metadata["labels"]:
        labels.add_symbol(symbol, n=count)
    return labels


def _check_labels(adapter: Adapter, labels: Dictionary) -> None:
    theirs, ours = adapter_labels(adapter).symbols, labels.symbols
    if theirs != ours:
        at = first_difference(theirs, ours)
        where = f"{len(ours)} labels" if at is None else f"label {at} is {ours[at]!r}"
        wanted = f"{len(theirs)}" if at is None else f"{theirs[at]!r}"
        raise ValueError(
            f"adapter {adapter.folder} was trained with other labels: here {where}, there "
            f"{wanted}. Use the dict file it was trained with"
        )


def _refuse_other_options(adapter: Adapter, cfg: Any) -> None:
    made = adapter.metadata["config"]["model"]
    keys = shape_options(cfg._name, lora=bool(made["lora_rank"]))
    defaults = MODEL_DATACLASS_REGISTRY[cfg._name].__dataclass_fields__
    made = {**{key: defaults[key].default for key in keys}, **made}  # older ones say less
    differ = [
        f"model.{key}={cfg[key]}, made with {made[key]}" for key in keys if cfg[key] != made[key]
    ]
    if differ:
        raise ValueError(
            f"adapter {adapter.folder} was made with other options: {'; '.join(differ)}"
        )
