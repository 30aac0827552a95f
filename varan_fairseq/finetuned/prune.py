"""A fine-tuned model without its upper blocks: every depth has a head that was trained there."""

from typing import Any, Dict

from omegaconf import open_dict

from ..models.layerwise import LayerwiseModel
from ..upstream.depth import cut_config


def prune(state: Dict[str, Any], model: LayerwiseModel, layers: int) -> Dict[str, Any]:
    """A checkpoint dictionary of the lowest `layers` blocks, by `LayerwiseModel.keep_lowest`.

    state: as `load.read_state` returns it; its configuration is changed in place. model: what it
    holds, which is changed, too. Raises ValueError for models that cannot be cut.
    """
    before = model.w2v_encoder.num_layers
    model.keep_lowest(layers)
    cfg = state["cfg"].model
    with open_dict(state["cfg"]):
        cut_config(cfg.w2v_args.model, model.w2v_encoder.spec, layers)
        cfg.keep_layers = layers
        if "source" in cfg.w2v_args:
            cfg.w2v_args.source.pruned_from = before
    # The optimizer's state is about all layers.
    return {**state, "model": model.state_dict(), "last_optimizer_state": None}
