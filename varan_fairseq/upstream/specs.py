"""What must be known of an encoder to read its layers: one entry per kind.

A new encoder is one more `EncoderSpec` in `SPECS`, under the name that fairseq registers the
pre-training model with (`cfg.model._name` of its checkpoint).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from fairseq import tasks
from omegaconf import OmegaConf
from torch import Tensor, nn

from ..runtime.fairseq_compat import conformer_buildable
from . import data2vec
from .conformer import ConformerBlock
from .wavlm import WavLM


@dataclass(frozen=True)
class EncoderSpec:
    """title: its name in the literature.
    build: (configuration of the pre-training) -> model without its pre-training parts.
    blocks: the model's transformer blocks, lowest first, each returning its state
    [T', B, D] first (T' may include padding to a multiple). batch_first: [B, T', D] instead.
    extra_frames: how many frames of a state come before the first of the utterance.
    extract: (model, source [B, samples], padding_mask, mask) -> (output [B, T, D], padding
    mask [B, T] or None).
    final_norm: the LayerNorm that a pre-norm model applies after its last block, or None.
    raw_states: whether blocks return the raw residual stream (then `layer_norm: auto` is true).
    dim: D.
    features: prefix of the feature encoder's weights.
    surplus: prefixes of weights that only pre-training needs.
    linears: glob patterns of the blocks' linear layers, by group.
    weight_readers: patterns of those whose weights are read by their parent, which never
    calls the layer.
    convolutions: those over time, input [B, C, T'], that would carry padding into the
    utterance.
    unsupported: (configuration of the model) -> why it cannot be read all the same, or None.
    depth: key of the configuration with the number of the upper blocks. upper: prefix of their
    weights. lower: (configuration of the model) -> number of blocks below them.
    masks_spans: whether masking is fairseq's `compute_mask_indices` with the keys of wav2vec 2.0.
    one_at_a_time: whether parts keep tables that grow with the longest utterance so far, so
    that threads cannot run the model at once."""

    title: str
    build: Callable[[Any], Any]
    blocks: Callable[[Any], Sequence[nn.Module]]
    extract: Callable[..., Tuple[Tensor, Optional[Tensor]]]
    final_norm: Callable[[Any], Optional[nn.Module]]
    raw_states: Callable[[Any], bool]
    dim: Callable[[Any], int]
    features: str
    surplus: Tuple[str, ...]
    linears: Dict[str, Tuple[str, ...]]
    weight_readers: Tuple[str, ...] = ()
    convolutions: Callable[[Any], Sequence[nn.Module]] = lambda model: ()
    unsupported: Callable[[Any], Optional[str]] = lambda cfg: None
    batch_first: bool = False
    extra_frames: Callable[[Any], int] = lambda model: 0
    depth: str = "encoder_layers"
    upper: str = "encoder.layers."
    lower: Callable[[Any], int] = lambda cfg: 0
    masks_spans: bool = True
    one_at_a_time: bool = False


def spec_of(cfg: Any) -> EncoderSpec:
    """The kind that a pre-training model's configuration describes. Raises ValueError, saying
    what it is and what is supported."""
    name = cfg.get("_name")
    if name == "wav2vec2" and cfg.get("layer_type") == "conformer":
        return CONFORMER
    if name not in SPECS:
        raise ValueError(
            f"holds a model of kind {name!r}; supported are {', '.join(sorted(SPECS))}"
        )
    problem = SPECS[name].unsupported(cfg)
    if problem is not None:
        raise ValueError(f"holds a model of kind {name!r} {problem}")
    return SPECS[name]


def count_frames(
    features: nn.Module, samples: Tensor, before: Optional[nn.Module] = None
) -> Tensor:
    """Frames that a feature encoder makes of each utterance's samples, both [B] long; at least
    1. before: count those that enter this part of it."""
    for module in features.modules():
        if module is before:
            break
        if isinstance(module, nn.Conv1d):
            samples = (samples - module.kernel_size[0]) // module.stride[0] + 1
    return samples.clamp(min=1)


def receptive_field(features: nn.Module) -> int:
    """Samples that a feature encoder needs for its first frame."""
    convolutions = [child for child in features.modules() if isinstance(child, nn.Conv1d)]
    samples = 1
    for module in reversed(convolutions):
        samples = (samples - 1) * module.stride[0] + module.kernel_size[0]
    return samples


def hop(features: nn.Module) -> int:
    """Samples from one frame of a feature encoder to the next."""
    convolutions = [child for child in features.modules() if isinstance(child, nn.Conv1d)]
    return math.prod(module.stride[0] for module in convolutions)


def _build_by_task(
    pretraining: Any, task_state: Optional[Dict[str, Any]] = None, **kept: Any
) -> Any:
    """task_state: for its task. kept: options of `remove_pretraining_modules`."""
    task = tasks.setup_task(pretraining.task)
    task.load_state_dict(task_state or {})
    model = task.build_model(pretraining.model, from_checkpoint=True)
    model.remove_pretraining_modules(**kept)
    return model


def _build_hubert(pretraining: Any) -> nn.Module:
    # The task would look for the pre-training labels' dictionaries; without them the model
    # builds no label embeddings, which fine-tuning has no use for.
    return _build_by_task(pretraining, {"dictionaries": [None]})


def _build_conformer(pretraining: Any) -> nn.Module:
    # Blocks are wrapped for activation checkpointing after their class is changed.
    plain = OmegaConf.merge(pretraining, {"model": {"checkpoint_activations": False}})
    with conformer_buildable():
        model = _build_by_task(plain)
    for block in model.encoder.layers:
        block.__class__ = ConformerBlock
    return model


def _build_data2vec(pretraining: Any) -> nn.Module:
    data2vec.register("data2vec_audio")
    return _build_by_task(pretraining)


def _build_data2vec2(pretraining: Any) -> nn.Module:
    data2vec.register("data2vec_multi")
    with data2vec.without_timm():
        return _build_by_task(pretraining, modality="audio")


def _extract(model, source, padding_mask, mask):
    result = model.extract_features(source=source, padding_mask=padding_mask, mask=mask)
    return result["x"], result["padding_mask"]


def _extract_hubert(model, source, padding_mask, mask):
    if padding_mask is not None:
        # HuBERT's own count of frames can be one too many, which would read padding: a mask
        # of frames instead of samples passes through it unchanged.
        samples = torch.tensor([source.shape[1]])  # on the CPU: nothing waits for a GPU
        longest = int(count_frames(model.feature_extractor, samples))
        frames = count_frames(model.feature_extractor, (~padding_mask).sum(1))
        padding_mask = torch.arange(longest, device=source.device) >= frames.unsqueeze(1)
    return model.extract_features(source=source, padding_mask=padding_mask, mask=mask)


def _extract_data2vec2(model, source, padding_mask, mask):
    result = model.extract_features(
        source=source, padding_mask=padding_mask, mask=mask, mode="AUDIO"
    )
    return result["x"], result["padding_mask"]


def _positional(model: Any) -> Sequence[nn.Module]:
    """The positional convolutions to which padding is not silence: several of them, or one behind a
    batch norm. fairseq zeroes what a single one reads."""
    parts = list(model.encoder.pos_conv.modules())
    convolutions = _convolutions(model.encoder.pos_conv)
    normed = any(isinstance(part, nn.BatchNorm1d) for part in parts)
    return convolutions if normed or len(convolutions) > 1 else ()


def _convolutions(module: nn.Module) -> Sequence[nn.Module]:
    return [child for child in module.modules() if isinstance(child, nn.Conv1d)]


def _needs_transformer(cfg: Any) -> Optional[str]:
    layer_type = cfg.get("layer_type", "transformer")
    return None if layer_type == "transformer" else f"with layer_type={layer_type}"


def _needs_audio(cfg: Any) -> Optional[str]:
    modality = cfg.get("supported_modality")
    return None if modality in (None, "AUDIO") else f"for {modality}, expected AUDIO"


_FFN = ("encoder.layers.*.fc1", "encoder.layers.*.fc2")
_ATTENTION = tuple(f"encoder.layers.*.self_attn.{x}_proj" for x in ("q", "k", "v", "out"))

# wav2vec 2.0 and what shares fairseq's TransformerEncoder with it.
_WAV2VEC2 = EncoderSpec(
    title="wav2vec 2.0",
    build=_build_by_task,
    blocks=lambda model: model.encoder.layers,
    extract=_extract,
    final_norm=lambda model: model.encoder.layer_norm if model.encoder.layer_norm_first else None,
    raw_states=lambda model: model.encoder.layer_norm_first,
    dim=lambda model: model.encoder.embedding_dim,
    features="feature_extractor.",
    surplus=("quantizer.", "project_q.", "target_glu.", "final_proj."),
    linears={"ffn": _FFN, "attention": _ATTENTION},
    weight_readers=_ATTENTION,
    convolutions=_positional,
    unsupported=_needs_transformer,
)

# A block ends in a LayerNorm of its own. Its attention is fairseq's or ESPnet's.
CONFORMER = replace(
    _WAV2VEC2,
    title="wav2vec 2.0 Conformer",
    build=_build_conformer,
    raw_states=lambda model: False,
    linears={
        "ffn": ("encoder.layers.*.ffn?.w_?",),
        "attention": ("encoder.layers.*.self_attn.*",),
    },
    convolutions=lambda model: [block.conv_module.depthwise_conv for block in model.encoder.layers],
    one_at_a_time=True,
)

SPECS: Dict[str, EncoderSpec] = {
    "wav2vec2": _WAV2VEC2,
    "hubert": replace(
        _WAV2VEC2,
        title="HuBERT",
        build=_build_hubert,
        extract=_extract_hubert,
        surplus=("label_embs_concat", "target_glu.", "final_proj."),
    ),
    "wavlm": replace(
        _WAV2VEC2,
        title="WavLM",
        build=lambda pretraining: WavLM(pretraining.model),
        surplus=(),
        weight_readers=(),
    ),
    "data2vec_audio": replace(
        _WAV2VEC2,
        title="data2vec",
        build=_build_data2vec,
        surplus=("_ema", "final_proj."),
    ),
    # The context encoder's blocks, then the main ones.
    "data2vec_multi": EncoderSpec(
        title="data2vec 2.0",
        build=_build_data2vec2,
        blocks=lambda model: [
            *model.modality_encoders["AUDIO"].context_encoder.blocks,
            *model.blocks,
        ],
        extract=_extract_data2vec2,
        final_norm=lambda model: model.norm,
        raw_states=lambda model: model.cfg.layer_norm_first,
        dim=lambda model: model.cfg.embed_dim,
        features="modality_encoders.AUDIO.local_encoder.",
        surplus=(
            "_ema",
            "shared_decoder.",
            "recon_proj.",
            "modality_encoders.AUDIO.decoder.",
            "modality_encoders.AUDIO.encoder_mask",
            "modality_encoders.IMAGE.",
            "modality_encoders.TEXT.",
        ),
        linears={
            "ffn": ("*blocks.*.mlp.fc1", "*blocks.*.mlp.fc2"),
            "attention": ("*blocks.*.attn.qkv", "*blocks.*.attn.proj"),
        },
        convolutions=lambda model: _convolutions(
            model.modality_encoders["AUDIO"].relative_positional_encoder
        ),
        unsupported=_needs_audio,
        depth="depth",
        upper="blocks.",
        lower=lambda cfg: cfg.modalities.audio.prenet_depth,
        masks_spans=False,
        batch_first=True,
        extra_frames=lambda model: model.modality_encoders["AUDIO"].modality_cfg.num_extra_tokens,
    ),
}
