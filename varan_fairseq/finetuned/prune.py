"""A fine-tuned model without its upper blocks: every depth has a head that was trained there."""

from typing import Any, Dict

from omegaconf import open_dict
from torch import Tensor

from ..models.layerwise import LayerwiseModel
from ..upstream.depth import cut_config, cut_weights

_ENCODER = "w2v_encoder.w2v_model."


def prune(state: Dict[str, Any], model: LayerwiseModel, layers: int) -> Dict[str, Any]:
    """A checkpoint dictionary of the lowest `layers` blocks, their heads, and the posterior over
    them with the prior cut and renormalised. What remains computes what it did: the LayerNorm of
    the layer that becomes the last takes the place of the encoder's own.

    state: as `decoding.finetuned.read_state` returns it; its configuration is changed in place.
    model: what it holds. Raises ValueError for models that cannot be cut.
    """
    encoder, cfg = model.w2v_encoder, state["cfg"].model
    norms = len(model.aggregation.norms.norms) if cfg.aggregation == "varan" else 0
    if cfg.aggregation != "varan":
        raise ValueError(
            f"model.aggregation={cfg.aggregation} has one head, which reads the last layer or a sum "
            "of all: only varan has a head at every depth"
        )
    if bool(norms) != encoder.raw_states:
        raise ValueError(
            f"it was trained with model.layer_norm={cfg.layer_norm}: with a LayerNorm where "
            f"{encoder.spec.title} has its own, or without where it has none, no layer can become "
            "the last (auto can)"
        )
    inner = cfg.w2v_args.model
    before = encoder.num_layers
    if layers == before:
        raise ValueError(f"the encoder has {before} blocks: nothing to cut")
    if cfg.decode_layer > layers > 0:
        raise ValueError(f"it predicts from layer {cfg.decode_layer} (model.decode_layer)")
    with open_dict(state["cfg"]):
        cut_config(inner, encoder.spec, layers)
        cfg.keep_layers = layers
        if "source" in cfg.w2v_args:
            cfg.w2v_args.source.pruned_from = before
    weights = cut_weights(state["model"], inner, encoder.spec, _ENCODER)
    # The optimizer's state is about all layers.
    return {**state, "model": _cut_reading(weights, model, layers), "last_optimizer_state": None}


def _cut_reading(
    weights: Dict[str, Tensor], model: LayerwiseModel, layers: int
) -> Dict[str, Tensor]:
    """Heads, LayerNorms, posterior and prior."""
    encoder = model.w2v_encoder
    heads, norms = "aggregation.heads.heads.", "aggregation.norms.norms."
    final = encoder.spec.final_norm(encoder.w2v_model)
    parts = encoder.w2v_model.named_modules()
    last = next((name for name, module in parts if module is final), None)
    result = {}
    for name, value in weights.items():
        head, norm = _index(name, heads), _index(name, norms)
        if head >= layers or norm >= layers:
            continue
        if norm == layers - 1:
            name = f"{_ENCODER}{last}.{name.rpartition('.')[2]}"
        elif last is not None and name.startswith(f"{_ENCODER}{last}."):
            continue
        elif name in ("aggregation.posterior.embedding", "aggregation.posterior.scalars"):
            value = value[:layers]
        elif name == "prior.probs":
            value = value[:layers] / value[:layers].sum()
        result[name] = value
    return result


def _index(name: str, prefix: str) -> int:
    return int(name[len(prefix) :].split(".")[0]) if name.startswith(prefix) else -1
