"""wav2vec 2.0 as fairseq2 writes it, omniASR's encoders and CTC models among them: a file of
weights without a configuration, which is read off names and shapes."""

from collections import Counter
from typing import Any, Dict, List, Tuple

from torch import Tensor

from .foreign import complete_config, draw_mask_embedding
from .names import Names, weight_normed

_FEATURES = "encoder_frontend.feature_extractor.layers."
_BLOCK = "encoder.layers.{}."
_NAMES = Names(
    [
        (_FEATURES + "{}.conv.{}", "feature_extractor.conv_layers.{}.0.{}"),
        (_FEATURES + "{}.layer_norm.{}", "feature_extractor.conv_layers.{}.2.1.{}"),
        (_FEATURES + "{}.group_norm.{}", "feature_extractor.conv_layers.{}.2.{}"),
        ("encoder_frontend.post_extract_layer_norm.{}", "layer_norm.{}"),
        ("encoder_frontend.model_dim_proj.{}", "post_extract_proj.{}"),
        *weight_normed("encoder_frontend.pos_encoder.conv", "encoder.pos_conv.0"),
        ("encoder_frontend.layer_norm.{}", "encoder.layer_norm.{}"),  # of a post-norm encoder
        ("encoder.layer_norm.{}", "encoder.layer_norm.{}"),
        (_BLOCK + "self_attn.output_proj.{}", _BLOCK + "self_attn.out_proj.{}"),
        (_BLOCK + "self_attn.{}_proj.{}", _BLOCK + "self_attn.{}_proj.{}"),
        (_BLOCK + "self_attn_layer_norm.{}", _BLOCK + "self_attn_layer_norm.{}"),
        (_BLOCK + "ffn.inner_proj.{}", _BLOCK + "fc1.{}"),
        (_BLOCK + "ffn.output_proj.{}", _BLOCK + "fc2.{}"),
        (_BLOCK + "ffn_layer_norm.{}", _BLOCK + "final_layer_norm.{}"),
        ("masker.temporal_mask_embed", "mask_emb"),
    ]
)
_NOT_OF_ENCODER = ("quantizer", "final_proj", "final_target_proj")
_LLM = ("llama_decoder", "encoder_proj", "text_frontend", "lang_embeddings")
_STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of every wav2vec 2.0 that fairseq2 knows


def is_format(state: Any) -> bool:
    """Whether what torch read looks like fairseq2's `{"model": weights}`."""
    weights = state.get("model") if isinstance(state, dict) else None
    return isinstance(weights, dict) and any(str(n).startswith(_FEATURES) for n in weights)


def read(state: Dict[str, Any], heads: int = 0) -> Tuple[Dict[str, Tensor], Any, Dict[str, int]]:
    """(weights by fairseq's names, configuration in fairseq's layout, number of weights that are left
    out by part).

    heads: of attention, which no shape tells; 0 for those of the released models: 12 in a base
    encoder (post-norm), 16 in the others. Raises ValueError for another model than wav2vec 2.0.
    """
    theirs = state["model"]
    if any(name.split(".")[0] in _LLM for name in theirs):
        raise ValueError("it holds a language model too: use the W2V or CTC file of that encoder")
    weights: Dict[str, Tensor] = {}
    dropped: Dict[str, int] = Counter()
    unknown: List[str] = []
    for name, tensor in theirs.items():
        ours = _NAMES.ours(name)
        if ours is not None:
            weights[ours] = tensor
        elif name.split(".")[0] in _NOT_OF_ENCODER:
            dropped[name.split(".")[0]] += tensor.numel()
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} of its {len(theirs)} weights are of no wav2vec 2.0 of fairseq2 that is "
            f"known here, the first is {unknown[0]}"
        )
    normed = [f"{part}.layer_norm.weight" in theirs for part in ("encoder", "encoder_frontend")]
    if normed[0] == normed[1]:
        raise ValueError(
            f"it has {'both' if normed[0] else 'neither'} of encoder.layer_norm (pre-norm) and "
            "encoder_frontend.layer_norm (post-norm): expected one"
        )
    model = _shapes(weights, pre_norm=normed[0], heads=heads)
    draw_mask_embedding(weights, model["encoder_embed_dim"])
    # their pipelines normalise for the models with LayerNorms in the feature encoder
    normalize = model["extractor_mode"] == "layer_norm"
    return weights, complete_config("wav2vec2", model, normalize, 16000), dropped


def _shapes(weights: Dict[str, Tensor], pre_norm: bool, heads: int) -> Dict[str, Any]:
    """The keys of fairseq's model. Raises ValueError for what it could not have built."""
    try:
        width = len(weights["encoder.layers.0.self_attn.q_proj.bias"])
        inner = len(weights["encoder.layers.0.fc1.bias"])
        positions = weights["encoder.pos_conv.0.weight_v"]
        shapes = [
            weights[f"feature_extractor.conv_layers.{layer}.0.weight"].shape
            for layer in range(len(_STRIDES))
        ]
    except KeyError as error:
        raise ValueError(f"it has no weight {error.args[0]} by fairseq's name") from None
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layers.")}
    convolutions = [(s[0], s[2], stride) for s, stride in zip(shapes, _STRIDES)]
    heads = heads or (16 if pre_norm else 12)
    if width % heads:
        raise ValueError(
            f"{heads} attention heads do not divide its width {width}: set model.encoder_heads"
        )
    normed = "feature_extractor.conv_layers.1.2.1.weight" in weights
    return {
        "encoder_embed_dim": width,
        "encoder_layers": len(layers),
        "encoder_attention_heads": heads,
        "encoder_ffn_embed_dim": inner,
        "extractor_mode": "layer_norm" if normed else "default",
        "conv_feature_layers": str([tuple(map(int, layer)) for layer in convolutions]),
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in weights,
        "layer_norm_first": pre_norm,
        "conv_pos": positions.shape[2],
        "conv_pos_groups": width // positions.shape[1],
    }
