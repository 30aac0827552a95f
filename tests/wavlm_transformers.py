"""The same WavLM by transformers: its model for our configuration, and its names for our
weights. For the benchmark and for tests."""

from typing import Any, Dict

from torch import nn

# (part of transformers' name, part of ours), in this order
_PARTS = (
    ("masked_spec_embed", "mask_emb"),
    ("feature_projection.layer_norm", "layer_norm"),
    ("feature_projection.projection", "post_extract_proj"),
    ("encoder.pos_conv_embed.conv.", "encoder.pos_conv.0."),
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
    (".attention.rel_attn_embed", ".self_attn.relative_attention_bias"),
    (".attention.gru_rel_pos_linear", ".self_attn.grep_linear"),
    (".attention.gru_rel_pos_const", ".self_attn.grep_a"),
    (".attention.", ".self_attn."),
    (".feed_forward.intermediate_dense", ".fc1"),
    (".feed_forward.output_dense", ".fc2"),
)


def transformers_wavlm(cfg: Any) -> nn.Module:
    """transformers' WavLMModel of the size that `cfg` says, random weights, no dropout."""
    from transformers import WavLMConfig, WavLMModel

    layers = eval(cfg["conv_feature_layers"])  # as fairseq reads this key
    names = ("hidden", "attention", "activation", "feat_proj")
    config = WavLMConfig(
        **{f"{name}_dropout": 0.0 for name in names},
        layerdrop=0.0,
        hidden_size=cfg["encoder_embed_dim"],
        num_hidden_layers=cfg["encoder_layers"],
        num_attention_heads=cfg["encoder_attention_heads"],
        intermediate_size=cfg["encoder_ffn_embed_dim"],
        feat_extract_norm="layer" if cfg["extractor_mode"] == "layer_norm" else "group",
        do_stable_layer_norm=cfg["layer_norm_first"],
        conv_dim=[layer[0] for layer in layers],
        conv_kernel=[layer[1] for layer in layers],
        conv_stride=[layer[2] for layer in layers],
        num_conv_pos_embeddings=cfg["conv_pos"],
        num_conv_pos_embedding_groups=cfg["conv_pos_groups"],
        num_buckets=cfg["num_buckets"],
        max_bucket_distance=cfg["max_distance"],
        apply_spec_augment=False,
    )
    return WavLMModel(config)


def our_names(model: nn.Module) -> Dict[str, str]:
    """transformers' name of each weight -> ours."""
    norm = "2.1" if model.config.feat_extract_norm == "layer" else "2"
    renamed = {}
    for name in model.state_dict():
        ours = name
        for theirs, mine in _PARTS:
            ours = ours.replace(theirs, mine)
        if ours.startswith("feature_extractor"):
            ours = ours.replace(".conv.", ".0.").replace(".layer_norm.", f".{norm}.")
        elif ".layers." in ours:
            ours = ours.replace(".layer_norm.", ".self_attn_layer_norm.")
        renamed[name] = ours
    return renamed
