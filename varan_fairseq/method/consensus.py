"""The transcript that all layers together find likeliest (docs/method.md, "Consensus").

The heads of different layers need not put a label at the same frame, so averages of their
emissions say it twice or not at all. Whole transcripts compare without frames:

    S(y) = sum_k q_k log p_k(y | x)

with the exact CTC likelihood of every layer is minus the first term of the objective. The
candidates are what the layers read by themselves, their best paths.
"""

from typing import Any, Sequence

import torch
from torch import Tensor

from . import kernels
from .combine import likeliest_layer
from .ctc import CPU_TABLE_BYTES, GPU_TABLE_BYTES
from .kernels.ctc_likelihood import bytes_of_a_row, log_likelihood
from .kernels.forward_recursion import bytes_a_row, weighted_log_likelihood


@torch.no_grad()
def consensus_layer(log_probs: Any, log_q: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """The layer, of each utterance, whose best path has the largest S (docs/method.md,
    "Consensus"). Layers with the same transcript, and transcripts with the same S, leave the choice to the larger
    q, then to the higher layer.

    Args:
        log_probs: [L, T, B, V] or L tensors [T, B, V], normalised over V, in at least float32;
            what padding holds has no effect.
        log_q: [B, L].
        lengths: [B], valid frames.
        blank: its index.

    Returns:
        [B] long, 0-based.
    """
    transcripts = _Transcripts(log_probs, lengths, blank)
    weights = log_q.double().exp()
    batch = torch.arange(len(log_q), device=log_q.device)

    if kernels.on_host(weights):
        # First what the likeliest layer reads: most other transcripts are behind it long before
        # their last frame.
        leading = torch.zeros_like(transcripts.contested)
        leading[transcripts.of_layer[likeliest_layer(log_q), batch]] = True
        bound = weights.new_full((len(log_q),), float("-inf"))
        score = transcripts.score(log_probs, weights, leading, bound)
        bound[transcripts.utterance[leading]] = score[leading]
        score += transcripts.score(log_probs, weights, ~leading, bound)
    else:
        score = transcripts.score_at_once(log_probs, weights)

    of_layer = score[transcripts.of_layer]  # [L, B]
    best = of_layer == of_layer.max(0).values
    return likeliest_layer(log_q.masked_fill(~best.t(), float("-inf")))


class _Transcripts:
    """The distinct best paths of a batch, without blanks and repetitions.

    labels: [N, S], padded with -1. utterance: [N], whose it is. of_layer: [L, B], which of
    the N a layer reads. contested: [N] bool, whether its utterance has others.
    """

    def __init__(self, log_probs: Sequence[Tensor], lengths: Tensor, blank: int):
        self.lengths, self.blank = lengths, blank
        paths = torch.stack([layer.argmax(-1) for layer in log_probs]).transpose(1, 2)
        layers, batch, frames = paths.shape
        valid = torch.arange(frames, device=paths.device) < lengths.unsqueeze(1)
        emits = valid & (paths != blank)
        emits[..., 1:] &= paths[..., 1:] != paths[..., :-1]
        width = max(1, int(emits.sum(-1).max()))
        # each label to its place; what is not a label to a column that is cut off
        place = (emits.cumsum(-1) - 1).masked_fill(~emits, width)
        labels = paths.new_full((layers, batch, width + 1), -1).scatter_(-1, place, paths)
        owner = torch.arange(batch, device=paths.device).expand(layers, batch)
        rows = torch.cat([owner.unsqueeze(-1), labels[..., :width]], dim=-1).flatten(0, 1)
        rows, inverse = rows.unique(dim=0, return_inverse=True)
        self.utterance, self.labels = rows[:, 0], rows[:, 1:]
        self.of_layer = inverse.view(layers, batch)
        self.contested = self.utterance.bincount(minlength=batch)[self.utterance] > 1

    def score(
        self, log_probs: Sequence[Tensor], weights: Tensor, which: Tensor, bound: Tensor
    ) -> Tensor:
        """S [N] of those in `which` [N] bool that are contested, else 0; -inf if it is below
        bound [B]. weights: q [B, L]."""
        score = weights.new_zeros(len(which))
        rows = (which & self.contested).nonzero().squeeze(1)
        row_bytes = bytes_a_row(len(log_probs), self.labels.shape[1])
        for part in rows.split(max(1, CPU_TABLE_BYTES // row_bytes)) if len(rows) else ():
            owner = self.utterance[part]
            score[part] = weighted_log_likelihood(
                log_probs,
                weights[owner],
                owner,
                self.labels[part],
                self.lengths[owner],
                self.blank,
                bound[owner],
            )
        return score

    def score_at_once(self, log_probs: Sequence[Tensor], weights: Tensor) -> Tensor:
        """S [N] of those that are contested, else 0."""
        score = weights.new_zeros(len(self.utterance))
        rows = self.contested.nonzero().squeeze(1)
        row_bytes = bytes_of_a_row(len(log_probs), len(log_probs[0]), self.labels.shape[1])
        for part in rows.split(max(1, GPU_TABLE_BYTES // row_bytes)) if len(rows) else ():
            owner = self.utterance[part]
            log_p = log_likelihood(
                log_probs, owner, self.labels[part], self.lengths[owner], self.blank
            )
            # 0 * -inf: a layer of no weight has no say, whatever it forbids
            log_p = log_p.masked_fill(weights[owner] == 0, 0)
            score[part] = (weights[owner] * log_p).sum(1)
        return score
