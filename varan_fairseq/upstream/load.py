"""A checkpoint of a pre-trained model -> `Encoder`."""

import hashlib
import logging
import os
from argparse import Namespace
from typing import Any, Container, Dict, Tuple

from fairseq import checkpoint_utils, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from ..compat import fit_task_config
from .kinds import KINDS
from .layers import Encoder

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

# Keys of fairseq's fine-tuning config that no encoder here can honour, with the value
# that asks for nothing.
_UNSUPPORTED = {"load_ema": False, "layer_decay": 1, "adp_num": -1, "layer_type": "transformer"}


def load_encoder(cfg: Any) -> Encoder:
    """Builds the encoder that a fine-tuning config names.

    cfg: fairseq's `Wav2Vec2AsrConfig` or one that extends it. Without `cfg.w2v_args` the
    checkpoint `cfg.w2v_path` is read (a pickle: only load checkpoints you trust), its
    configuration is stored in `cfg.w2v_args` with the file's name and SHA-256 as `source`,
    and its weights are loaded unless `cfg.no_pretrained_weights`. With `cfg.w2v_args`, as in
    every fine-tuned checkpoint, nothing is read and weights stay random until the caller
    loads them.

    Raises FileNotFoundError or ValueError, naming the option or file, what was found and
    what is wanted.
    """
    for key, neutral in _UNSUPPORTED.items():
        if getattr(cfg, key, neutral) != neutral:
            raise ValueError(
                f"model.{key}={getattr(cfg, key)} is not supported by varan_fairseq: leave it at {neutral}"
            )
    if cfg.ddp_backend == "fully_sharded":
        raise ValueError(
            "distributed_training.ddp_backend=fully_sharded is not supported by varan_fairseq: "
            "use legacy_ddp or pytorch_ddp"
        )
    weights = None
    if cfg.w2v_args is None:
        weights, cfg.w2v_args = read_pretrained(cfg)
    elif isinstance(cfg.w2v_args, Namespace):
        cfg.w2v_args = convert_namespace_to_omegaconf(cfg.w2v_args)
    elif not OmegaConf.is_config(cfg.w2v_args):
        cfg.w2v_args = OmegaConf.create(cfg.w2v_args)
    pretraining = cfg.w2v_args
    name = pretraining.model._name
    kind = KINDS[name]

    with open_dict(pretraining):
        pretraining.task.data = cfg.data
    fit_task_config(pretraining.task)
    task = tasks.setup_task(pretraining.task)
    if name == "hubert":
        # Its task would look for the pre-training labels' dictionaries; without them the
        # model builds no label embeddings, which fine-tuning has no use for.
        task.load_state_dict({"dictionaries": [None]})
    model = task.build_model(pretraining.model, from_checkpoint=True)
    model.remove_pretraining_modules()
    encoder = Encoder(
        model,
        kind,
        apply_mask=cfg.apply_mask,
        freeze_finetune_updates=cfg.freeze_finetune_updates,
    )
    if weights is not None and not cfg.no_pretrained_weights:
        load_weights(encoder, weights, cfg.w2v_path)
    return encoder


def read_pretrained(cfg: Any) -> Tuple[Dict[str, Tensor], Any]:
    """Reads `cfg.w2v_path`: (weights, configuration of the pre-training with the overrides
    that `cfg` asks for). cfg and errors: see `load_encoder`."""
    path = None if OmegaConf.is_missing(cfg, "w2v_path") else cfg.w2v_path
    if not path:
        raise ValueError(
            "model.w2v_path is not set: give the file of a pre-trained "
            f"{' or '.join(KINDS)} checkpoint"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"model.w2v_path={path}: no such file (working directory {os.getcwd()})"
        )
    overrides = {key: getattr(cfg, key) for key in _OVERRIDES if hasattr(cfg, key)}
    overrides["encoder_layerdrop"] = cfg.layerdrop
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
        pretraining = state.get("cfg") or convert_namespace_to_omegaconf(state["args"])
        name = pretraining.model.get("_name")
        state["model"].keys()
    except Exception as error:
        raise ValueError(
            f"model.w2v_path={path} is no fairseq checkpoint ({type(error).__name__}: {error})"
        ) from error
    if name not in KINDS:
        raise ValueError(
            f"model.w2v_path={path} holds a model of kind {name!r}; supported are "
            f"{', '.join(sorted(KINDS))}"
        )
    normalized = pretraining.task.get("normalize", pretraining.model.get("normalize", False))
    if normalized != cfg.normalize:
        want, found = (str(bool(value)).lower() for value in (normalized, cfg.normalize))
        raise ValueError(
            f"task.normalize={found}, but model.w2v_path={path} was pre-trained with "
            f"normalize={want}: set task.normalize={want}"
        )

    with open_dict(pretraining):
        pretraining.source = {"file": os.path.basename(path), "sha256": sha256(path)}
        pretraining.criterion = None
        pretraining.lr_scheduler = None
        # checkpoints older than these keys have nothing to override
        for key in ("require_same_masks", "mask_dropout", "checkpoint_activations"):
            if key in overrides:
                pretraining.model[key] = overrides[key]
    logger.info("encoder: %s from %s", name, path)
    return state["model"], pretraining


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**22), b""):
            digest.update(block)
    return digest.hexdigest()


def load_weights(
    encoder: Encoder, weights: Dict[str, Tensor], path: str, added: Container[str] = ()
) -> None:
    """Loads what `read_pretrained` read. added: parameters of the model that the file cannot
    have, such as adapters. Raises ValueError if other weights are missing, or surplus."""
    kept = {k: value for k, value in weights.items() if not k.startswith(encoder.kind.surplus)}
    missing, unexpected = encoder.w2v_model.load_state_dict(kept, strict=False)
    missing = [key for key in missing if key not in added]
    if missing or unexpected:
        raise ValueError(
            f"the weights in {path} do not fit their own configuration: missing "
            f"{missing or 'none'}, surplus {unexpected or 'none'}"
        )
