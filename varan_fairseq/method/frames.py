"""Frames of a padded batch: which are valid, and arithmetic that does not see the others."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional as F


class ValidFrames(NamedTuple):
    """Where the frames of a padded batch [T, B, ...] are valid.

    padding: [T, B, 1] bool. lengths: [B, 1], valid frames of each utterance. On a CPU, where
    asking for them waits for nothing, and None and 0 on a GPU: index, [N] positions of the N
    valid frames in the flattened batch, utterance after utterance; offsets, [B], where each
    utterance begins in it; common, leading frames that are valid in every utterance.
    """

    padding: Tensor
    lengths: Tensor
    index: Optional[Tensor]
    offsets: Optional[Tensor]
    common: int


def valid_frames(padding_mask: Optional[Tensor]) -> Optional[ValidFrames]:
    """From a padding mask [B, T] (True = padding); None, for no padding, stays None."""
    if padding_mask is None:
        return None
    valid = ~padding_mask
    lengths = valid.sum(1)
    padding = padding_of(padding_mask)
    if not on_host(padding_mask):
        return ValidFrames(padding, lengths.unsqueeze(1), None, None, 0)
    utterance, frame = valid.nonzero(as_tuple=True)
    index, offsets = frame * len(valid) + utterance, lengths.cumsum(0) - lengths
    return ValidFrames(padding, lengths.unsqueeze(1), index, offsets, int(lengths.min()))


def padding_of(padding_mask: Optional[Tensor]) -> Optional[Tensor]:
    """[B, T] -> [T, B, 1], as the states lie."""
    return None if padding_mask is None else padding_mask.t().unsqueeze(-1)


def on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def cleaned(state: Tensor, padding: Optional[Tensor]) -> Tensor:
    """[T, B, D] with zeros in the padding [T, B, 1]: NaN there would reach the gradient of every
    weight that reads the state, since 0 * NaN is NaN."""
    return state if padding is None else state.masked_fill(padding, 0)


def mean_of_valid(
    state: Tensor,
    padding: Optional[Tensor],
    lengths: Optional[Tensor],
    index: Optional[Tensor],
    offsets: Optional[Tensor],
) -> Tensor:
    """[T, B, D] -> [B, D], by `ValidFrames`. Padding is not touched."""
    if padding is None:
        return state.mean(0)
    dtype = torch.promote_types(state.dtype, torch.float32)
    if index is not None and dtype == state.dtype:  # embedding bags gather and add at once
        return F.embedding_bag(index, state.reshape(-1, state.shape[-1]), offsets, mode="mean")
    return (cleaned(state, padding).sum(0, dtype=dtype) / lengths).to(state.dtype)


def outer(grad: Tensor, state: Tensor) -> Tensor:
    """Sum over frames and utterances: [T, B, V], [T, B, D] -> [V, D]."""
    return grad.flatten(0, 1).t() @ state.flatten(0, 1).to(grad.dtype)
