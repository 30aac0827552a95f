"""WavLM (arXiv 2110.13900), which fairseq lacks: wav2vec 2.0's feature encoder, masking,
positional convolution and blocks, with gated relative position bias in the attention."""

import logging
import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np
import torch
from fairseq.models.wav2vec.wav2vec2 import (
    TransformerEncoder,
    TransformerSentenceEncoderLayer,
    Wav2Vec2Config,
    Wav2Vec2Model,
)
from fairseq.modules.transformer_sentence_encoder import init_bert_params
from fairseq.utils import index_put
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from ..runtime.fairseq_compat import scaled_dot_product_attention

logger = logging.getLogger(__name__)

# Without these a file could be read as another network of the same size.
_REQUIRED = (
    "extractor_mode",
    "conv_feature_layers",
    "conv_bias",
    "conv_pos",
    "conv_pos_groups",
    "encoder_layers",
    "encoder_embed_dim",
    "encoder_ffn_embed_dim",
    "encoder_attention_heads",
    "activation_fn",
    "layer_norm_first",
    "normalize",
    "relative_position_embedding",
    "gru_rel_pos",
    "num_buckets",
    "max_distance",
)


@dataclass
class WavLMConfig(Wav2Vec2Config):
    """Keys of the released files, those of wav2vec 2.0 among them."""

    normalize: bool = False
    num_buckets: int = 320
    max_distance: int = 800
    required_seq_len_multiple: int = 1


def is_released_format(state: Any) -> bool:
    """Whether `state` looks like Microsoft's `{"cfg": flat dictionary, "model": weights}`."""
    return (
        isinstance(state, dict)
        and isinstance(state.get("cfg"), dict)
        and "encoder_layers" in state["cfg"]
        and isinstance(state.get("model"), dict)
    )


def read_released(state: Dict[str, Any]) -> Tuple[Dict[str, Tensor], Any]:
    """(weights, configuration in fairseq's layout) of a released file's content. Raises
    ValueError if it describes no WavLM."""
    given = state["cfg"]
    missing = [key for key in _REQUIRED if key not in given]
    if missing:
        raise ValueError(f"its configuration lacks {', '.join(missing)}")
    for key in ("relative_position_embedding", "gru_rel_pos"):
        if not given[key]:
            raise ValueError(f"its configuration has {key}={given[key]}, WavLM has True")
    known = OmegaConf.structured(WavLMConfig)
    ignored = sorted(set(given) - set(known.keys()) - set(_REQUIRED))
    if ignored:
        logger.info("%d keys of the checkpoint ignored: %s", len(ignored), ", ".join(ignored))
    chosen = {key: value for key, value in given.items() if key in known}
    model: Any = OmegaConf.to_container(OmegaConf.merge(known, chosen), enum_to_str=True)
    task = {"_name": "audio_pretraining", "normalize": model["normalize"], "sample_rate": 16000}
    return state["model"], OmegaConf.create({"model": {**model, "_name": "wavlm"}, "task": task})


class WavLM(Wav2Vec2Model):
    """cfg: `WavLMConfig`. Has the interface of wav2vec 2.0 without its pre-training parts."""

    def __init__(self, cfg: Any):
        cfg = OmegaConf.merge(OmegaConf.structured(WavLMConfig), cfg)
        super().__init__(OmegaConf.merge(cfg, {"encoder_layers": 0}))
        self.remove_pretraining_modules()
        self.cfg = cfg
        self.encoder = WavLMEncoder(cfg)


class WavLMEncoder(TransformerEncoder):
    """fairseq's encoder with blocks of WavLM, of which the first owns the position bias."""

    def build_encoder_layer(self, cfg: Any, **unused) -> "WavLMBlock":
        return WavLMBlock(cfg)

    def __init__(self, cfg: Any):
        super().__init__(cfg)
        biases = nn.Embedding(cfg.num_buckets, cfg.encoder_attention_heads)
        self.layers[0].self_attn.relative_attention_bias = biases
        self.max_distance = cfg.max_distance
        self.apply(init_bert_params)

    def extract_features(self, x: Tensor, padding_mask: Optional[Tensor] = None, *_, **unused):
        """x: [B, T, D], padding_mask: [B, T] bool or None. Returns ([B, T, D], []); the final
        LayerNorm is the caller's, as in fairseq's encoder."""
        if padding_mask is not None:
            x = index_put(x, padding_mask, 0)
        x = x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        if not self.layer_norm_first:
            x = self.layer_norm(x)
        x = F.dropout(x, self.dropout, self.training).transpose(0, 1).contiguous()
        table = self.layers[0].self_attn.relative_attention_bias.weight
        bias = position_bias(table, len(x), self.max_distance)
        for block in self.layers:
            if not self.training or self.layerdrop == 0 or np.random.random() > self.layerdrop:
                x = block(x, bias, padding_mask)
        return x.transpose(0, 1), []


class WavLMBlock(TransformerSentenceEncoderLayer):
    """fairseq's block with `GatedAttention`."""

    def __init__(self, cfg: Any):
        super().__init__(
            embedding_dim=cfg.encoder_embed_dim,
            ffn_embedding_dim=cfg.encoder_ffn_embed_dim,
            num_attention_heads=cfg.encoder_attention_heads,
            dropout=cfg.dropout,
            attention_dropout=cfg.attention_dropout,
            activation_dropout=cfg.activation_dropout,
            activation_fn=cfg.activation_fn,
            layer_norm_first=cfg.layer_norm_first,
        )
        self.self_attn = GatedAttention(
            cfg.encoder_embed_dim, cfg.encoder_attention_heads, cfg.attention_dropout
        )

    def forward(self, x: Tensor, bias: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        """[T, B, D] -> [T, B, D]. bias, padding_mask: see `GatedAttention`."""
        if self.layer_norm_first:
            normed = self.self_attn_layer_norm(x)
            x = x + self.dropout1(self.self_attn(normed, bias, padding_mask))
            return x + self._feed_forward(self.final_layer_norm(x))
        x = self.self_attn_layer_norm(x + self.dropout1(self.self_attn(x, bias, padding_mask)))
        return self.final_layer_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout3(self.fc2(self.dropout2(self.activation_fn(self.fc1(x)))))


class GatedAttention(nn.Module):
    """Self-attention with a position bias that each query scales by a gate of its own (paper,
    section III-B). dim: D. num_heads: H, of width d = D / H."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.grep_linear = nn.Linear(dim // num_heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        """[T, B, D] -> [T, B, D]. bias: [H, T, T], see `position_bias`. padding_mask: [B, T]
        bool, True = padding, or None."""
        bias = self.gate(x) * bias
        if padding_mask is not None:
            bias = bias.masked_fill_(padding_mask[:, None, None], float("-inf"))
        query, key, value = (
            self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        bias = bias.to(query.dtype)  # they differ under autocast
        attended = scaled_dot_product_attention(query, key, value, bias, dropout)
        return self.out_proj(attended.permute(2, 0, 1, 3).reshape(x.shape))

    def gate(self, x: Tensor) -> Tensor:
        """[T, B, D] -> [B, H, T, 1], between 1 and 2 + grep_a."""
        frames, batch, _ = x.shape
        gates = self.grep_linear(x.reshape(frames, batch, self.num_heads, -1))
        gates = gates.view(frames, batch, self.num_heads, 2, 4).sum(-1).sigmoid()
        a, b = gates.permute(1, 2, 0, 3).split(1, dim=-1)
        return a * (b * self.grep_a - 1) + 2

    def _heads(self, x: Tensor) -> Tensor:
        """[T, B, D] -> [B, H, T, d]."""
        frames, batch, _ = x.shape
        return x.reshape(frames, batch, self.num_heads, -1).permute(1, 2, 0, 3)


def position_bias(table: Tensor, frames: int, max_distance: int) -> Tensor:
    """table: [buckets, H] -> [H, T, T], one number a head and a distance from query (row) to
    key (column). max_distance: in frames, from which on distances share the last bucket."""
    distance = torch.arange(1 - frames, frames, device=table.device)
    biases = table[bucket(distance, len(table), max_distance)].t()
    # row i holds the distances -i .. T - 1 - i
    return biases.unfold(1, frames, 1).flip(1)


def bucket(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """T5's buckets (arXiv 1910.10683, section 2.1), in both directions: half of them for
    keys after the query; of each half, half for one distance each, the others wider and
    wider up to max_distance."""
    half = num_buckets // 2
    exact = half // 2
    size = distance.abs()
    wide = torch.log(size.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    wide = (exact + wide * (half - exact)).long().clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(size < exact, size, wide)
