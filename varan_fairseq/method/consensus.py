"""The transcript that all layers together find likeliest (method.md, "Consensus").

The heads of different layers need not put a label at the same frame, so averages of their
emissions say it twice or not at all. Whole transcripts compare without frames:

    S(y) = sum_k q_k log p_k(y | x)

with the exact CTC likelihood of every layer is minus the first term of the objective. The
candidates are what the layers read by themselves, their best paths.
"""

from typing import Optional, Sequence, Union

import torch
from torch import Tensor
from torch.nn import functional as F

from .ctc import CPU_TABLE_BYTES, GPU_TABLE_BYTES


@torch.no_grad()
def consensus_layer(
    log_probs: Union[Tensor, Sequence[Tensor]], log_q: Tensor, lengths: Tensor, blank: int
) -> Tensor:
    """The layer, of each utterance, whose best path has the largest S.

    log_probs: [L, T, B, V] or L tensors [T, B, V], normalised over V, in at least float32;
    what padding holds has no effect. log_q: [B, L]. lengths: [B], valid frames. blank: its
    index. Layers with the same transcript, and transcripts with the same S, leave the choice
    to the larger q, then to the lower layer. Returns [B] long, 0-based.
    """
    transcripts = _Transcripts(log_probs, lengths, blank)
    weights = log_q.exp().to(log_probs[0].dtype)
    batch = torch.arange(len(log_q), device=log_q.device)

    # First in full what the likeliest layer reads. S only falls as layers are added, so most
    # other transcripts are out of the race after a few layers.
    leading = torch.zeros_like(transcripts.contested)
    leading[transcripts.of_layer[log_q.argmax(1), batch]] = True
    score = transcripts.score(log_probs, weights, leading)
    bound = score.new_full((len(log_q),), float("-inf"))
    bound[transcripts.utterance[leading]] = score[leading]
    score += transcripts.score(log_probs, weights, ~leading, bound)

    each = score[transcripts.of_layer]  # [L, B]
    best = each == each.max(0).values
    return log_q.t().masked_fill(~best, float("-inf")).argmax(0)


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
        # each label to its place; what is no label to a column that is cut off
        place = (emits.cumsum(-1) - 1).masked_fill(~emits, width)
        labels = paths.new_full((layers, batch, width + 1), -1).scatter_(-1, place, paths)
        owner = torch.arange(batch, device=paths.device).expand(layers, batch)
        rows = torch.cat([owner.unsqueeze(-1), labels[..., :width]], dim=-1).flatten(0, 1)
        rows, inverse = rows.unique(dim=0, return_inverse=True)
        self.utterance, self.labels = rows[:, 0], rows[:, 1:]
        self.of_layer = inverse.view(layers, batch)
        self.contested = self.utterance.bincount(minlength=batch)[self.utterance] > 1

    def score(
        self,
        log_probs: Sequence[Tensor],
        weights: Tensor,
        which: Tensor,
        bound: Optional[Tensor] = None,
    ) -> Tensor:
        """S [N] of those in `which` [N] bool that are contested, else 0. weights: q [B, L].
        bound: [B]; a transcript whose S is less gets some number between."""
        score = weights.new_zeros(len(which))
        rows = (which & self.contested).nonzero().squeeze(1)
        for layer in weights.mean(0).argsort(descending=True).tolist():
            if len(rows) == 0:
                break
            weight = weights[self.utterance[rows], layer]
            term = weight * self._log_likelihood(log_probs[layer], rows)
            score[rows] += term.masked_fill(weight == 0, 0)  # 0 * -inf: no say
            if bound is not None:
                rows = rows[score[rows] >= bound[self.utterance[rows]]]
        return score

    def _log_likelihood(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """log p(y | x) [len(rows)] by one layer, log_probs [T, B, V]."""
        frames, _, classes = log_probs.shape
        table = frames * (2 * self.labels.shape[1] + 1 + classes) * log_probs.element_size()
        budget = GPU_TABLE_BYTES if log_probs.is_cuda else CPU_TABLE_BYTES
        parts = rows.split(max(1, budget // table))
        return torch.cat([self._ctc(log_probs, part) for part in parts])

    def _ctc(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        utterance, labels = self.utterance[rows], self.labels[rows]
        with torch.backends.cudnn.flags(enabled=False):  # not deterministic
            return -F.ctc_loss(
                log_probs[:, utterance],
                labels.clamp(min=0),
                self.lengths[utterance],
                (labels >= 0).sum(1),
                blank=self.blank,
                reduction="none",
            )
