"""Probing heads: every layer's own p(y | x, l), and what comes of reading all layers."""

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .choices import ACTIVATIONS


@dataclass(frozen=True)
class LayerOutputs:
    """What an aggregation returns of a batch.

    logits: K tensors [T, B, V], or [B, V] of a pooled aggregation. log_q: [B, K], at least
    float32. means: [B, K, D], what the posterior saw; None without one.
    """

    logits: List[Tensor]
    log_q: Tensor
    means: Optional[Tensor] = None


def single_output(logits: Tensor) -> LayerOutputs:
    """Of an aggregation with one prediction, [T, B, V] or [B, V], which is certain: log q = 0."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return LayerOutputs([logits], logits.new_zeros(logits.shape[-2], 1, dtype=dtype))


class LayerNorms(nn.Module):
    """The LayerNorm of each layer but the last, which has passed the encoder's own; or none."""

    def __init__(self, dim: int, num_layers: int, enabled: bool):
        super().__init__()
        norms = [nn.LayerNorm(dim) for _ in range(num_layers - 1)] if enabled else []
        self.norms = nn.ModuleList(norms)

    def __getitem__(self, layer: int) -> Optional[nn.LayerNorm]:
        """That of the layer with this 0-based index, if it has one."""
        return cast(nn.LayerNorm, self.norms[layer]) if layer < len(self.norms) else None

    def recomputed(self, layer: int, function: Callable, *inputs: Any) -> Any:
        """function(*inputs), which norms that layer's state. Where it has a norm this is computed
        again in the backward pass, or each normed copy would be kept."""
        if self[layer] is None or not torch.is_grad_enabled():
            return function(*inputs)
        return checkpoint(function, *inputs, use_reentrant=False)

    def forward(self, state: Tensor, layer: int) -> Tensor:
        """[..., D] of the layer with this 0-based index -> the same shape."""
        norm = self[layer]
        return state if norm is None else norm(state)


class ContextMap(nn.Conv1d):
    """A linear map of each frame with `context` frames on either side, [T, B, D] -> [T, B, k]. What
    lies outside of the T frames counts as 0."""

    def __init__(self, dim: int, width: int, context: int):
        super().__init__(dim, width, kernel_size=2 * context + 1, padding=context)

    def forward(self, state: Tensor) -> Tensor:
        return super().forward(state.permute(1, 2, 0)).permute(2, 0, 1)


def probing_head(
    dim: int,
    num_classes: int,
    head_dim: int = 0,
    dropout: float = 0.0,
    activation: str = "none",
    context: int = 0,
) -> nn.Sequential:
    """Dropout and a linear map or, with a head_dim, two linear maps (docs/method.md, "What training
    minimises").

    Args:
        dim: width D.
        num_classes: V.
        head_dim: k, of D -> k -> V; 0 for one map.
        dropout: of what the head reads.
        activation: one of `ACTIVATIONS`, between the two maps; the method has none.
        context: frames on either side that the first map sees; the method has none.

    Returns:
        A module: [..., D] -> [..., V], with a context [T, B, D] -> [T, B, V].
    """
    widths = [dim, head_dim, num_classes] if head_dim else [dim, num_classes]
    maps: List[Any] = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
    if context:
        maps[0] = ContextMap(dim, widths[1], context)
    for each in maps:
        nn.init.xavier_uniform_(each.weight)
        nn.init.zeros_(each.bias)
    between = [nn.ReLU()] if activation == "relu" else []
    return nn.Sequential(nn.Dropout(dropout), maps[0], *between, *maps[1:])


def check_head(head_dim: int, activation: str, context: int = 0) -> None:
    """Raises ValueError for what no `probing_head` can be."""
    if head_dim < 0:
        raise ValueError(f"head_dim must be 0 (no bottleneck) or more, got {head_dim}")
    if context < 0:
        raise ValueError(f"head_context must be 0 (each frame alone) or more, got {context}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"head_activation={activation}: choose one of {', '.join(ACTIVATIONS)}")
    if activation != "none" and not head_dim:
        raise ValueError(
            f"head_activation={activation} lies between the two maps of a head: set head_dim, too"
        )


class ProbingHeads(nn.Module):
    """One probing head a layer, or one for all of them.

    Args:
        dim: width D.
        num_classes: V.
        num_layers: L.
        shared: one head for all layers.
        head_dim, dropout, activation, context: see `probing_head`.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_layers: int,
        *,
        shared: bool = False,
        head_dim: int = 0,
        dropout: float = 0.0,
        activation: str = "none",
        context: int = 0,
    ):
        super().__init__()
        check_head(head_dim, activation, context)
        self.context = context
        self.heads = nn.ModuleList(
            probing_head(dim, num_classes, head_dim, dropout, activation, context)
            for _ in range(1 if shared else num_layers)
        )

    def __getitem__(self, layer: int) -> nn.Module:
        """The head of the layer with this 0-based index."""
        return self.heads[layer if len(self.heads) > 1 else 0]

    def forward(self, state: Tensor, layer: int, valid: Optional[Tensor] = None) -> Tensor:
        """[..., D] of the layer with this 0-based index -> logits [..., V]. valid: [T, B, 1], 0 in
        the padding, which heads with a context see as they see what lies behind the last frame."""
        if self.context and valid is not None:
            state = state * valid
        return self[layer](state)
