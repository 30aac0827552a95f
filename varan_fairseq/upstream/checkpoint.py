"""A checkpoint file -> weights of an encoder and the configuration of its pre-training."""

import logging
import os
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, overwrite_args_by_name
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from ..lora import is_lora
from ..runtime.fairseq_compat import option_or
from ..runtime.files import sha256
from ..runtime.pickles import as_fairseq_state, peek, reason
from ..runtime.processes import on_first_rank
from . import fairseq2, hf, wavlm
from .depth import cut_config, cut_weights, num_blocks
from .specs import SPECS, EncoderSpec, spec_of

logger = logging.getLogger(__name__)

# Keys of fairseq's fine-tuning config that replace the pre-training key of the same name.
_OVERRIDES = (
    "dropout",
    "activation_dropout",
    "dropout_input",
    "attention_dropout",
    "mask_length",
    "mask_prob",
    "mask_selection",
    "mask_other",
    "no_mask_overlap",
    "require_same_masks",
    "mask_dropout",
    "mask_channel_length",
    "mask_channel_prob",
    "mask_channel_before",
    "mask_channel_selection",
    "mask_channel_other",
    "no_mask_channel_overlap",
    "feature_grad_mult",
    "checkpoint_activations",
    "offload_activations",
    "min_params_to_wrap",
)

# The same under the names that data2vec 2.0 has for them.
_RENAMED = {
    "encoder_layerdrop": "layerdrop",
    "layerdrop": "layerdrop",
    "prenet_layerdrop": "layerdrop",
    "encoder_dropout": "dropout",
    "prenet_dropout": "dropout",
    "post_mlp_drop": "dropout",
    "local_grad_mult": "feature_grad_mult",
    "encoder_zero_mask": "zero_mask",
    "learned_alibi_scale": "update_alibi",
}

# Of data2vec 2.0: as fairseq fine-tunes it, and without a teacher and other modalities, which
# would be built only to be dropped.
_CONSTANT = {"inverse_mask": False, "skip_ema": True, "supported_modality": "AUDIO"}


@dataclass(frozen=True)
class Pretrained:
    """What a checkpoint file holds of an encoder. weights: by the names of the pre-training
    model. config: of its pre-training, in fairseq's layout. finetuned: name of the model
    that it was the encoder of, or None. dropped: how many weights of each part of that
    model are left out."""

    weights: Dict[str, Tensor]
    config: Any
    spec: EncoderSpec
    finetuned: Optional[str]
    dropped: Dict[str, int]

    @property
    def left_out(self) -> str:
        """`dropped` in words."""
        return ", ".join(f"{name} ({count:,})" for name, count in self.dropped.items()) or "none"


def normalizes(config: Any) -> bool:
    """Whether a pre-training normalised waveforms: its `task.normalize`, or in old files the
    model's key."""
    return bool(config.task.get("normalize", config.model.get("normalize", False)))


def read_checkpoint(path: str, heads: int = 0) -> Pretrained:
    """Reads a pre-trained checkpoint of fairseq (with `cfg`, or `args` as until 2020), a
    fine-tuned one with the configuration of its encoder, a released WavLM, a wav2vec 2.0 of
    fairseq2 (whose `heads` no shape tells, see there), or a folder that transformers wrote.

    All files are pickles: only load checkpoints you trust. Raises ValueError, naming the file,
    what it holds and what is supported.
    """
    try:
        if os.path.isdir(path):
            weights, config, finetuned, dropped = hf.read_folder(path)
        else:
            weights, config, finetuned, dropped = _content(peek(path), heads)
        weights.keys()
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint that can be read: {reason(error)}") from error
    try:
        spec = spec_of(config.model)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    return Pretrained(weights, config, spec, finetuned, dropped)


def _content(
    state: Dict[str, Any], heads: int
) -> Tuple[Dict[str, Tensor], Any, Optional[str], Dict[str, int]]:
    """(weights, config, finetuned, dropped) of `Pretrained`, from what `peek` returned."""
    if wavlm.is_released_format(state):
        return (*wavlm.read_released(state), None, {})
    if fairseq2.is_format(state):
        weights, config, dropped = fairseq2.read(state, heads)
        return weights, config, "of fairseq2" if dropped else None, dropped
    if isinstance(getattr(state.get("args"), "w2v_args", None), Namespace):
        # fairseq main cannot convert one namespace in another
        inner = convert_namespace_to_omegaconf(state["args"].w2v_args)
        weights, config, dropped = _encoder_of(state["model"], inner)
        return weights, config, state["args"].arch, dropped
    state = as_fairseq_state(state)
    config = state["cfg"]
    OmegaConf.set_struct(config, False)
    if config.model.get("w2v_args") is not None:
        weights, inner, dropped = _encoder_of(state["model"], config.model.w2v_args)
        return weights, inner, config.model._name, dropped
    if "w2v_path" in config.model:
        raise ValueError(
            f"fine-tuned with model {config.model._name!r} and without the configuration of "
            "its encoder, as fairseq's task hubert_pretraining does: use the checkpoint it "
            "started from"
        )
    return state["model"], config, None, {}


def _encoder_of(
    weights: Dict[str, Tensor], config: Any
) -> Tuple[Dict[str, Tensor], Any, Dict[str, int]]:
    """Of a fine-tuned model: weights of the encoder, its configuration, and numbers of other
    weights by part."""
    kept: Dict[str, Tensor] = {}
    dropped: Dict[str, int] = Counter()
    for name, tensor in weights.items():
        outside, separator, inside = name.partition("w2v_model.")
        if separator:
            kept[inside] = tensor
        else:
            dropped[".".join(outside.split(".")[:2])] += tensor.numel()
    if any(is_lora(name) for name in kept):
        raise ValueError(
            "fine-tuned with LoRA, whose weights are apart: fold them in with varan-export merge"
        )
    config = OmegaConf.create(config)
    OmegaConf.set_struct(config, False)
    return kept, config, dropped


def read_pretrained(cfg: Any) -> Tuple[Dict[str, Tensor], Any]:
    """Reads `cfg.w2v_path`: (weights, configuration of the pre-training with the overrides
    that `cfg` asks for). cfg and errors: see `load_encoder`."""
    path = None if OmegaConf.is_missing(cfg, "w2v_path") else cfg.w2v_path
    if not path:
        raise ValueError(
            "model.w2v_path is not set: give the file of a pre-trained checkpoint "
            f"({', '.join(spec.title for spec in SPECS.values())})"
        )
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"model.w2v_path={path}: no such file (working directory {os.getcwd()})"
        )
    heads = option_or(cfg, "encoder_heads", 0)
    try:
        read = read_checkpoint(path, heads)
    except ValueError as error:
        raise ValueError(f"model.w2v_path={error}") from error
    config = read.config
    stored = config.model.get("encoder_attention_heads", config.model.get("num_heads"))
    if heads not in (0, stored):
        raise ValueError(
            f"model.encoder_heads={heads}, but model.w2v_path={path} has {stored} attention heads: "
            "leave it out"
        )
    normalized = normalizes(config)
    if normalized != cfg.normalize:
        want, given = (str(bool(value)).lower() for value in (normalized, cfg.normalize))
        raise ValueError(
            f"task.normalize={given}, but model.w2v_path={path} was pre-trained with "
            f"normalize={want}: set task.normalize={want}"
        )
    overrides = {key: getattr(cfg, key) for key in _OVERRIDES if hasattr(cfg, key)}
    for theirs, ours in _RENAMED.items():
        if hasattr(cfg, ours):
            overrides[theirs] = getattr(cfg, ours)
    overwrite_args_by_name(config, {**overrides, **_CONSTANT})
    with open_dict(config):
        config.source = {
            "file": os.path.basename(os.path.abspath(path)),
            "sha256": on_first_rank(
                lambda: hf.digest(path) if os.path.isdir(path) else sha256(path)
            ),
        }
        config.criterion = None
        config.lr_scheduler = None
        # checkpoints older than these keys have nothing to override
        for key in ("require_same_masks", "mask_dropout", "checkpoint_activations"):
            if key in overrides:
                config.model[key] = overrides[key]
    logger.info("encoder: %s (%s) from %s", read.spec.title, config.model._name, path)
    if read.finetuned is not None:
        logger.info(
            "fine-tuned with model %s: its encoder is kept, its other weights are not: %s",
            read.finetuned,
            read.left_out,
        )
    weights = read.weights
    layers = getattr(cfg, "keep_layers", 0)
    if layers:
        before = num_blocks(config.model, read.spec)
        try:
            cut_config(config.model, read.spec, layers)
        except ValueError as error:
            raise ValueError(f"model.keep_layers={layers}: {error} (0 for all)") from None
        weights = cut_weights(weights, config.model, read.spec)
        logger.info("keeping the lowest %d of %d blocks", layers, before)
    return weights, config


def check_finite(weights: Dict[str, Tensor], path: str) -> None:
    """Raises ValueError, naming the first, for weights that are NaN or infinite. path: of the
    file they came from."""
    bad = [
        name
        for name, weight in weights.items()
        if torch.is_tensor(weight) and not torch.isfinite(weight).all()
    ]
    if bad:
        raise ValueError(
            f"{path}: {len(bad)} of {len(weights)} weights hold NaN or infinite numbers, the first "
            f"is {bad[0]}: use an earlier checkpoint"
        )
