"""config.json of transformers -> the keys of fairseq's model."""

import json
import os
from typing import Any, Dict, List, Tuple

from fairseq.models import MODEL_DATACLASS_REGISTRY

from .hf_names import PREFIXES

CONFIG = "config.json"
_MOST_BYTES = 2**24
ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_accurate"),
}
# What no encoder of fairseq computes: key -> (the value that asks for nothing, why).
_ONLY: Dict[str, Tuple[Any, str]] = {
    "layer_norm_eps": (1e-5, "fairseq's LayerNorms have 1e-05"),
    "feat_extract_activation": ("gelu", "fairseq's feature encoder has gelu"),
    "feat_proj_layer_norm": (True, "fairseq's encoders have that LayerNorm"),
    "add_adapter": (False, "layers that pool frames are not in fairseq's encoders"),
    "adapter_attn_dim": (None, "adapters of a language, as MMS has: use mms-1b or mms-300m"),
    "rotary_embedding_base": (10000, "fairseq's rotary positions have 10000"),
}


def read_json(file: str) -> Dict[str, Any]:
    """Raises ValueError, naming the file, for one that holds no object of JSON."""
    name = os.path.basename(file)
    try:
        with open(file, "rb") as opened:
            content = json.loads(opened.read(_MOST_BYTES))
    except ValueError as error:
        raise ValueError(f"{name} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds a {type(content).__name__}, expected an object")
    return content


class Config:
    """config.json, whose values are checked when they are read. A key that an older transformers
    did not write has the value that transformers gives it."""

    def __init__(self, file: str):
        self.values = read_json(file)
        self.kind = str(self.values.get("model_type"))
        if self.kind not in PREFIXES:
            raise ValueError(
                f"{CONFIG} has model_type {self.kind!r}; supported are {', '.join(sorted(PREFIXES))}"
            )

    def get(self, key: str, kind: Any, default: Any = ...) -> Any:
        value = self.values.get(key, default)
        if value is ...:
            raise ValueError(f"{CONFIG} lacks {key}")
        number = kind is float and type(value) is int
        if value is not default and not isinstance(value, kind) and not number:
            raise ValueError(f"{CONFIG} has {key}={value!r}, expected {kind.__name__}")
        return value

    def size(self, key: str, default: Any = ...) -> int:
        value = self.get(key, int, default)
        if isinstance(value, bool) or not 1 <= value < 2**20:
            raise ValueError(f"{CONFIG} has {key}={value!r}, expected a number from 1")
        return value

    def rate(self, key: str) -> float:
        value = self.get(key, float, 0.0)
        if not 0 <= value < 1:
            raise ValueError(f"{CONFIG} has {key}={value!r}, expected 0 .. 1")
        return float(value)

    def one_of(self, key: str, choices: Any, default: Any = ...) -> Any:
        value = self.get(key, object, default)
        if value not in choices:
            wanted = ", ".join(map(repr, choices))
            raise ValueError(f"{CONFIG} has {key}={value!r}; supported are {wanted}")
        return value

    def convolutions(self) -> List[Tuple[int, int, int]]:
        keys = ("conv_dim", "conv_kernel", "conv_stride")
        lists = [self.get(key, list) for key in keys]
        for key, values in zip(keys, lists):
            if not values or not all(type(value) is int and 0 < value < 2**16 for value in values):
                raise ValueError(
                    f"{CONFIG} has {key}={values!r}, expected a list of numbers from 1"
                )
        if len({len(values) for values in lists}) != 1:
            raise ValueError(f"{CONFIG} has {', '.join(keys)} of different lengths")
        return list(zip(*lists))

    @property
    def layer_normed(self) -> bool:
        """data2vec's feature encoder has no choice."""
        if self.kind == "data2vec-audio":
            return True
        return self.one_of("feat_extract_norm", ("group", "layer"), "group") == "layer"

    @property
    def batch_normed(self) -> bool:
        return self.kind == "hubert" and self.get("conv_pos_batch_norm", bool, False)


def model_config(config: Config) -> Dict[str, Any]:
    """Keys of fairseq's model that differ from its defaults. Raises ValueError for a model that
    fairseq's code cannot compute."""
    for key, (neutral, why) in _ONLY.items():
        value = config.values.get(key, neutral)
        if value != neutral:
            raise ValueError(f"{CONFIG} has {key}={value!r}: {why}")
    model = {
        "encoder_embed_dim": config.size("hidden_size"),
        "encoder_layers": config.size("num_hidden_layers"),
        "encoder_attention_heads": config.size("num_attention_heads"),
        "encoder_ffn_embed_dim": config.size("intermediate_size"),
        "extractor_mode": "layer_norm" if config.layer_normed else "default",
        "conv_feature_layers": str(config.convolutions()),
        "conv_bias": config.get("conv_bias", bool, False),
        "layer_norm_first": config.get("do_stable_layer_norm", bool, False),
        "dropout": config.rate("hidden_dropout"),
        "attention_dropout": config.rate("attention_dropout"),
        "activation_dropout": config.rate("activation_dropout"),
        "dropout_input": config.rate("feat_proj_dropout"),
        "encoder_layerdrop": config.rate("layerdrop"),
    }
    positions = config.size("num_conv_pos_embeddings")
    model["conv_pos_groups"] = config.size("num_conv_pos_embedding_groups")
    if config.kind == "wav2vec2-conformer":
        return {**model, **_conformer(config), "conv_pos": positions}
    choice = config.one_of("hidden_act", tuple(ACTIVATIONS), "gelu")
    model["activation_fn"] = ACTIVATIONS[choice]
    if config.kind == "data2vec-audio":
        width = config.size("conv_pos_kernel_size")
        model.update(layer_norm_first=False, pos_conv_depth=positions)
        return {**model, "conv_pos": positions * width}
    model["conv_pos"] = positions
    if config.kind == "wavlm":
        model["num_buckets"] = config.size("num_buckets")
        model["max_distance"] = config.size("max_bucket_distance")
    if config.batch_normed:
        if "conv_pos_batch_norm" not in MODEL_DATACLASS_REGISTRY["hubert"].__dataclass_fields__:
            raise ValueError(
                f"{CONFIG} has conv_pos_batch_norm=true, which this fairseq lacks: install "
                "ve-fairseq==0.12.3 (Python 3.11, 3.12), or fairseq's main branch"
            )
        model["conv_pos_batch_norm"] = True
    return model


def _conformer(config: Config) -> Dict[str, Any]:
    config.one_of("hidden_act", ("swish", "silu"))  # fairseq has no other in a Conformer
    choices = {"relative": "rel_pos", "rotary": "rope"}
    positions = config.one_of("position_embeddings_type", tuple(choices), "relative")
    return {
        "layer_type": "conformer",
        "attn_type": "espnet",
        "pos_enc_type": choices[positions],
        "depthwise_conv_kernel_size": config.size("conv_depthwise_kernel_size", 31),
        "max_positions": config.size("max_source_positions", 5000),
        "layer_norm_first": True,
    }
