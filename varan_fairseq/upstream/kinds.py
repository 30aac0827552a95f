"""What must be known of an encoder to read its layers: one entry a kind.

A new encoder is one more `Kind` in `KINDS`, under the name that fairseq registers the
pre-training model with (`cfg.model._name` of its checkpoint).
"""

from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from torch import Tensor, nn


class Kind(NamedTuple):
    """blocks: the model's transformer blocks, lowest first, each returning its state
    [T', B, D] first (T' may include padding to a multiple). extract: (model, source
    [B, samples], padding_mask, mask) -> (output [B, T, D], padding mask [B, T] or None).
    final_norm: the LayerNorm that a pre-norm model applies after its last block, or None.
    dim: D. features: prefix of the feature encoder's weights. surplus: prefixes of weights
    that only pre-training needs. linears: glob patterns of the blocks' linear layers, by
    group. weight_readers: the groups whose weights are read by their parent, which never
    calls the layer."""

    blocks: Callable[[nn.Module], Sequence[nn.Module]]
    extract: Callable[..., Tuple[Tensor, Optional[Tensor]]]
    final_norm: Callable[[nn.Module], Optional[nn.Module]]
    dim: Callable[[nn.Module], int]
    features: str
    surplus: Tuple[str, ...]
    linears: Dict[str, Tuple[str, ...]]
    weight_readers: Tuple[str, ...]


def _extract_wav2vec2(model, source, padding_mask, mask):
    result = model.extract_features(source=source, padding_mask=padding_mask, mask=mask)
    return result["x"], result["padding_mask"]


def _extract_hubert(model, source, padding_mask, mask):
    return model.extract_features(source=source, padding_mask=padding_mask, mask=mask)


# wav2vec 2.0 and HuBERT share fairseq's TransformerEncoder.
_TRANSFORMER = dict(
    blocks=lambda model: model.encoder.layers,
    final_norm=lambda model: model.encoder.layer_norm if model.encoder.layer_norm_first else None,
    dim=lambda model: model.encoder.embedding_dim,
    features="feature_extractor.",
    linears={
        "ffn": ("encoder.layers.*.fc1", "encoder.layers.*.fc2"),
        "attention": tuple(f"encoder.layers.*.self_attn.{x}_proj" for x in ("q", "k", "v", "out")),
    },
    weight_readers=("attention",),
)

KINDS: Dict[str, Kind] = {
    "wav2vec2": Kind(
        extract=_extract_wav2vec2,
        surplus=("quantizer.", "project_q.", "target_glu.", "final_proj."),
        **_TRANSFORMER,
    ),
    "hubert": Kind(
        extract=_extract_hubert,
        surplus=("label_embs_concat", "target_glu.", "final_proj."),
        **_TRANSFORMER,
    ),
}
