"""An encoder of one utterance, or of several of one length, with nothing that a tracer cannot follow:
no padding, no masking, no choice by a tensor's value."""

from typing import Any

import torch
from torch import Tensor, nn

from .layers import Encoder
from .wavlm import WavLM, bucket


class PlainEncoder(nn.Module):
    """Shares its modules with an `Encoder` in evaluation mode.

    Args:
        encoder: of wav2vec 2.0, HuBERT, WavLM, data2vec, or a Conformer with relative positions.

    Raises:
        ValueError: for another kind, with the reason.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        model: Any = encoder.w2v_model
        if not hasattr(model, "feature_extractor"):
            raise ValueError(
                f"{encoder.spec.title}: its alibi biases are made for the longest utterance so far, "
                "which a graph cannot hold"
            )
        positions = getattr(model.encoder, "pos_enc_type", None)
        if positions == "rope":
            raise ValueError(
                f"{encoder.spec.title} with rotary positions keeps a table of the first utterance's "
                "length, which a graph would keep for all"
            )
        self.features = model.feature_extractor
        self.layer_norm = model.layer_norm
        self.project = model.post_extract_proj
        self.encoder = model.encoder
        self.wavlm = isinstance(model, WavLM)
        self.relative = positions == "rel_pos"
        self.normed = encoder.spec.final_norm(model) is not None

    def forward(self, source: Tensor) -> Tensor:
        """[B, samples] -> output [B, T, D]."""
        x = self.layer_norm(self.features(source).transpose(1, 2))
        if self.project is not None:
            x = self.project(x)
        if not self.relative:  # a Conformer has a convolution that nothing calls
            x = x + self.encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        if not self.encoder.layer_norm_first:
            x = self.encoder.layer_norm(x)
        x = self._blocks(x.transpose(0, 1))
        return self.encoder.layer_norm(x) if self.normed else x

    def _blocks(self, x: Tensor) -> Tensor:
        """[T, B, D] -> [B, T, D]."""
        if self.wavlm:
            bias = self._bias(x.shape[0])
            for block in self.encoder.layers:
                x = block(x, bias, None)
        elif self.relative:
            positions = self.encoder.embed_positions(x)
            for block in self.encoder.layers:
                x = block(x, position_emb=positions, need_weights=False)[0]
        else:
            for block in self.encoder.layers:
                x = block(x, need_weights=False)[0]
        return x.transpose(0, 1)

    def _bias(self, frames: Any) -> Tensor:
        """WavLM's `position_bias`, by a gather, whose length a tracer does not fix."""
        table = self.encoder.layers[0].self_attn.relative_attention_bias.weight
        frame = torch.arange(frames, device=table.device)
        distance = frame[None, :] - frame[:, None]
        buckets = bucket(distance, len(table), self.encoder.max_distance)
        return table[buckets].permute(2, 0, 1)
