"""A checkpoint of a pre-trained model -> `Encoder`."""

from argparse import Namespace
from typing import Any, Container, Dict

from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from ..runtime.fairseq_compat import fit_task_config, option_or
from .checkpoint import check_finite, read_pretrained
from .layers import Encoder
from .specs import spec_of

# Keys of fairseq's fine-tuning config that no encoder here can honour, with the value
# that asks for nothing.
_UNSUPPORTED = {"load_ema": False, "layer_decay": 1, "adp_num": -1}


def load_encoder(cfg: Any) -> Encoder:
    """Builds the encoder that a fine-tuning config names.

    cfg: fairseq's `Wav2Vec2AsrConfig` or one that extends it. Without `cfg.w2v_args` the
    checkpoint `cfg.w2v_path` is read (a pickle: only load checkpoints you trust), its
    configuration is stored in `cfg.w2v_args` with the file's name and SHA-256 as `source`,
    and its weights are loaded unless `cfg.no_pretrained_weights`. With `cfg.w2v_args`, as in
    every fine-tuned checkpoint, nothing is read and weights stay random until the caller
    loads them.

    Raises FileNotFoundError, ModuleNotFoundError or ValueError, naming the option or file,
    what was found and what was expected.
    """
    for key, neutral in _UNSUPPORTED.items():
        if option_or(cfg, key, neutral) != neutral:
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
    _check_layer_type(cfg, cfg.w2v_args.model)
    encoder = build_encoder(
        cfg.w2v_args,
        cfg.data,
        apply_mask=cfg.apply_mask,
        freeze_finetune_updates=cfg.freeze_finetune_updates,
        mask_group_norm=option_or(cfg, "mask_group_norm", True),
    )
    if cfg.checkpoint_activations:
        for block in encoder.spec.blocks(encoder.w2v_model):
            if not hasattr(block, "precheckpoint_forward"):  # of a model that lacks the option
                checkpoint_wrapper(block, offload_to_cpu=cfg.offload_activations)
    if weights is not None and not cfg.no_pretrained_weights:
        load_weights(encoder, weights, cfg.w2v_path)
    return encoder


def build_encoder(pretraining: Any, data: str = "", **options: Any) -> Encoder:
    """An encoder with random weights. pretraining: what `read_checkpoint` returns as `config`
    (changed in place). data: folder for its task. options: of `Encoder`. Raises ValueError or
    ModuleNotFoundError for a kind that is not supported."""
    spec = spec_of(pretraining.model)
    with open_dict(pretraining):
        pretraining.task.data = data
    fit_task_config(pretraining.task)
    return Encoder(spec.build(pretraining), spec, **options)


def load_weights(
    encoder: Encoder, weights: Dict[str, Tensor], path: str, added: Container[str] = ()
) -> None:
    """Loads what `read_pretrained` read. added: parameters of the model that the file cannot
    have, such as adapters. Raises ValueError if other weights are missing, surplus, of
    another shape, or no numbers."""
    kept = {k: value for k, value in weights.items() if not k.startswith(encoder.spec.surplus)}
    own = encoder.w2v_model.state_dict()
    missing = [key for key in own if key not in kept and key not in added]
    surplus = [key for key in kept if key not in own]
    shapes = [
        f"{key} {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in kept.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or surplus or shapes:
        raise ValueError(
            f"the weights in {path} do not fit their own configuration: missing "
            f"{_some(missing)}, surplus {_some(surplus)}, of another shape {_some(shapes)}"
        )
    check_finite(kept, path)
    encoder.w2v_model.load_state_dict(kept, strict=False)


def _check_layer_type(cfg: Any, model: Any) -> None:
    """fairseq's key may repeat what the checkpoint says (its default says nothing)."""
    wanted, stored = option_or(cfg, "layer_type", "transformer"), model.get("layer_type")
    if wanted not in ("transformer", stored):
        raise ValueError(
            f"model.layer_type={wanted}, but the checkpoint has layer_type={stored}: leave it out"
        )


def _some(names) -> str:
    """At most five of them."""
    listed = ", ".join(names[:5]) or "none"
    return f"{listed} and {len(names) - 5} more" if len(names) > 5 else listed
