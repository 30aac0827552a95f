"""An encoder as transformers wants it: the way back of `hf`."""

from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from .hf_config import ACTIVATIONS
from .hf_names import PREFIXES, names
from .layers import Encoder

# fairseq's name of a model -> (model_type, stem of the classes' names)
_KINDS = {
    "wav2vec2": ("wav2vec2", "Wav2Vec2"),
    "hubert": ("hubert", "Hubert"),
    "wavlm": ("wavlm", "WavLM"),
    "data2vec_audio": ("data2vec-audio", "Data2VecAudio"),
    "conformer": ("wav2vec2-conformer", "Wav2Vec2Conformer"),
}
_THEIR_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(list(ACTIVATIONS.items()))}


def kind_of(options: Any) -> str:
    """model_type of the encoder. options: of its pre-training's model. Raises ValueError for one
    that transformers has no class for."""
    return _KINDS[_ours(options)][0]


def class_stem(options: Any) -> str:
    """What the names of transformers' classes begin with: Wav2Vec2 of Wav2Vec2ForCTC."""
    return _KINDS[_ours(options)][1]


def _ours(options: Any) -> str:
    name = "conformer" if options.get("layer_type") == "conformer" else options._name
    if name not in _KINDS:
        raise ValueError(f"transformers has no class for fairseq's {name}")
    if name == "conformer" and options.pos_enc_type not in ("rel_pos", "rope"):
        raise ValueError(
            f"a Conformer with pos_enc_type={options.pos_enc_type} has no class in transformers"
        )
    return name


def their_config(encoder: Encoder, options: Any) -> Dict[str, Any]:
    """config.json but for what a head adds."""
    kind = kind_of(options)
    model: Any = encoder.w2v_model
    convolutions = [p for p in model.feature_extractor.modules() if isinstance(p, nn.Conv1d)]
    layer_normed = options.extractor_mode == "layer_norm"
    config = {
        "model_type": kind,
        "torch_dtype": "float32",
        "hidden_size": encoder.dim,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": options.encoder_attention_heads,
        "intermediate_size": options.encoder_ffn_embed_dim,
        "hidden_dropout": options.dropout,
        "attention_dropout": options.attention_dropout,
        "activation_dropout": options.activation_dropout,
        "feat_proj_dropout": options.dropout_input,
        "layerdrop": options.encoder_layerdrop,
        "layer_norm_eps": 1e-5,
        "feat_extract_norm": "layer" if layer_normed else "group",
        "feat_extract_activation": "gelu",
        "conv_dim": [part.out_channels for part in convolutions],
        "conv_kernel": [part.kernel_size[0] for part in convolutions],
        "conv_stride": [part.stride[0] for part in convolutions],
        "conv_bias": bool(options.conv_bias),
        "do_stable_layer_norm": bool(options.layer_norm_first),
        "num_conv_pos_embeddings": options.conv_pos,
        "num_conv_pos_embedding_groups": options.conv_pos_groups,
        # else transformers has no weight for masked frames
        "mask_time_prob": min(max(float(options.mask_prob), 0.05), 1.0),
        "mask_time_length": options.mask_length,
    }
    if kind == "wav2vec2-conformer":
        positions = {"rel_pos": "relative", "rope": "rotary"}
        config.update(
            hidden_act="swish",
            position_embeddings_type=positions[options.pos_enc_type],
            conv_depthwise_kernel_size=options.depthwise_conv_kernel_size,
            max_source_positions=options.max_positions,
        )
        return config
    activation = str(getattr(options.activation_fn, "value", options.activation_fn))
    if activation == "gelu_fast":  # fairseq's older name of it
        activation = "gelu_accurate"
    if activation not in _THEIR_ACTIVATIONS:
        raise ValueError(f"transformers has no activation_fn={activation} in this encoder")
    config["hidden_act"] = _THEIR_ACTIVATIONS[activation]
    if kind == "data2vec-audio":
        depth = options.pos_conv_depth
        config.update(
            num_conv_pos_embeddings=depth, conv_pos_kernel_size=max(3, options.conv_pos // depth)
        )
    if kind == "wavlm":
        config.update(num_buckets=options.num_buckets, max_bucket_distance=options.max_distance)
    if options.get("conv_pos_batch_norm"):
        config["conv_pos_batch_norm"] = True
    return config


def their_weights(encoder: Encoder, options: Any) -> Dict[str, Tensor]:
    """By transformers' names in a model with a head, contiguous, no two of one memory."""
    kind = kind_of(options)
    batch_normed = bool(options.get("conv_pos_batch_norm"))
    table = names(kind, options.extractor_mode == "layer_norm", batch_normed)
    prefix = PREFIXES[kind]
    weights: Dict[str, Tensor] = {}
    unknown: List[str] = []
    for name, tensor in encoder.w2v_model.state_dict().items():
        if name.endswith("self_attn.rotary_emb.inv_freq"):
            weights[prefix + "encoder.embed_positions.inv_freq"] = tensor.clone()
            continue
        theirs = table.theirs(name)
        if theirs is None:
            unknown.append(name)
        else:
            weights[prefix + theirs] = tensor.detach().clone().contiguous()
    if unknown:
        raise ValueError(f"transformers' {kind} has no weights {', '.join(unknown[:5])}")
    if prefix + "feature_projection.projection.weight" not in weights:
        weights[prefix + "feature_projection.projection.weight"] = torch.eye(encoder.dim)
        weights[prefix + "feature_projection.projection.bias"] = torch.zeros(encoder.dim)
    return weights
