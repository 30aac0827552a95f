"""Hugging Face's names of an encoder's weights, and fairseq's."""

from typing import List, Tuple

from .names import Names, weight_normed

# model_type of config.json -> what the names begin with in a model with a head
PREFIXES = {
    "wav2vec2": "wav2vec2.",
    "hubert": "hubert.",
    "wavlm": "wavlm.",
    "data2vec-audio": "data2vec_audio.",
    "wav2vec2-conformer": "wav2vec2_conformer.",
    "unispeech": "unispeech.",
    "unispeech-sat": "unispeech_sat.",
}

# Parts of their models that are not of the encoder: heads and what only pre-training needs.
NOT_OF_ENCODER = (
    "quantizer",
    "project_q",
    "project_hid",
    "lm_head",
    "ctc_proj",
    "classifier",
    "projector",
    "layer_weights",
    "speaker_proj",
    "tdnn",
    "objective",
    "label_embeddings_concat",
    "layer_norm_for_extract",
)

_Table = List[Tuple[str, str]]

_COMMON: _Table = [
    ("masked_spec_embed", "mask_emb"),
    ("feature_extractor.conv_layers.{}.conv.{}", "feature_extractor.conv_layers.{}.0.{}"),
    ("feature_projection.layer_norm.{}", "layer_norm.{}"),
    ("feature_projection.projection.{}", "post_extract_proj.{}"),
    ("encoder.layer_norm.{}", "encoder.layer_norm.{}"),
]
_NORM = "feature_extractor.conv_layers.{}.layer_norm.{}"
_BLOCK, _OURS = "encoder.layers.{}.", "encoder.layers.{}."
_TRANSFORMER: _Table = [
    (_BLOCK + "attention.{}_proj.{}", _OURS + "self_attn.{}_proj.{}"),
    (_BLOCK + "layer_norm.{}", _OURS + "self_attn_layer_norm.{}"),
    (_BLOCK + "feed_forward.intermediate_dense.{}", _OURS + "fc1.{}"),
    (_BLOCK + "feed_forward.output_dense.{}", _OURS + "fc2.{}"),
    (_BLOCK + "final_layer_norm.{}", _OURS + "final_layer_norm.{}"),
]
_WAVLM: _Table = [
    (_BLOCK + "attention.rel_attn_embed.{}", _OURS + "self_attn.relative_attention_bias.{}"),
    (_BLOCK + "attention.gru_rel_pos_linear.{}", _OURS + "self_attn.grep_linear.{}"),
    (_BLOCK + "attention.gru_rel_pos_const", _OURS + "self_attn.grep_a"),
]
_CONFORMER: _Table = [
    (_BLOCK + "ffn{}_layer_norm.{}", _OURS + "ffn{}.layer_norm.{}"),
    (_BLOCK + "ffn{}.intermediate_dense.{}", _OURS + "ffn{}.w_1.{}"),
    (_BLOCK + "ffn{}.output_dense.{}", _OURS + "ffn{}.w_2.{}"),
    *(
        (_BLOCK + same, _OURS + same)
        for same in (
            "self_attn_layer_norm.{}",
            "self_attn.{}",
            "self_attn.{}.{}",
            "conv_module.{}.{}",
            "final_layer_norm.{}",
        )
    ),
]
_POSITIONS = "encoder.pos_conv_embed.conv"
_ONE_CONVOLUTION = weight_normed(_POSITIONS, "encoder.pos_conv.0")
_BEHIND_BATCH_NORM: _Table = [
    ("encoder.pos_conv_embed.batch_norm.{}", "encoder.pos_conv.0.{}"),
    (_POSITIONS + ".{}", "encoder.pos_conv.1.{}"),
]
_SEVERAL_CONVOLUTIONS: _Table = [
    ("encoder.pos_conv_embed.layers.{}.conv.{}", "encoder.pos_conv.{}.0.{}"),
]


def names(model_type: str, layer_normed: bool, batch_normed: bool = False) -> Names:
    """layer_normed: whether every convolution of the feature encoder has a LayerNorm, or the first
    alone a group norm. batch_normed: HuBERT's `conv_pos_batch_norm`."""
    place = "2.1" if layer_normed else "2"
    table = [*_COMMON, (_NORM, f"feature_extractor.conv_layers.{{}}.{place}.{{}}")]
    if model_type == "wav2vec2-conformer":  # both libraries keep a convolution that nothing calls
        return Names(table + _CONFORMER + _ONE_CONVOLUTION)
    table += _TRANSFORMER
    if model_type == "wavlm":
        table += _WAVLM
    if model_type == "data2vec-audio":
        return Names(table + _SEVERAL_CONVOLUTIONS)
    return Names(table + (_BEHIND_BATCH_NORM if batch_normed else _ONE_CONVOLUTION))
