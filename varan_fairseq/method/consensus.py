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
        utterance, labels = self.utterance[rows], self.labels[rows]
        lengths = self.lengths[utterance]
        found = log_likelihood(log_probs, utterance, labels, lengths, self.blank)
        lost = found.isinf().nonzero().squeeze(1)  # impossible, or too unlikely for that way
        table = log_probs.shape[0] * (2 * labels.shape[1] + 1 + log_probs.shape[2])
        budget = GPU_TABLE_BYTES if log_probs.is_cuda else CPU_TABLE_BYTES
        parts = lost.split(max(1, budget // (table * log_probs.element_size())))
        for part in parts if len(lost) else ():
            with torch.backends.cudnn.flags(enabled=False):  # not deterministic
                found[part] = -F.ctc_loss(
                    log_probs[:, utterance[part]],
                    labels[part].clamp(min=0),
                    lengths[part],
                    (labels[part] >= 0).sum(1),
                    blank=self.blank,
                    reduction="none",
                ).to(found)
        return found.to(log_probs.dtype)


def log_likelihood(
    log_probs: Tensor, utterance: Tensor, labels: Tensor, lengths: Tensor, blank: int
) -> Tensor:
    """CTC's forward recursion for many transcripts at once, in probabilities that are rescaled
    now and then: no table and no logarithm a state, so several times faster than `F.ctc_loss`
    on a CPU, which has the gradient in mind (`benchmarks/consensus.py`).

    log_probs: [T, B, V]. utterance: [N], which of the B. labels: [N, S], padded with -1.
    lengths: [N], valid frames. Returns log p(y | x) [N], float64; -inf where p is 0 or less than
    about e^-700 of what the transcript's beginnings have.
    """
    frames, _, classes = log_probs.shape
    probs = F.pad(log_probs.double().exp(), (0, 1))  # a class of probability 0, for padding
    silence = probs[:, utterance, blank].unsqueeze(-1)  # [T, N, 1]
    real = labels >= 0
    where = utterance.unsqueeze(1) * (classes + 1) + labels.masked_fill(~real, classes)
    skip = (labels[:, 1:] != labels[:, :-1]).double()  # no blank between these two
    label = probs.new_zeros(labels.shape)
    gap = probs.new_zeros(len(labels), labels.shape[1] + 1)  # blanks before, between, after
    gap[:, 0] = 1.0
    scale = probs.new_zeros(len(labels))
    shortest = int(lengths.min())
    for t in range(int(lengths.max())):
        said = label + gap[:, :-1]
        said[:, 1:].addcmul_(label[:, :-1], skip)
        said.mul_(probs[t].take(where))
        quiet = gap * silence[t]
        quiet[:, 1:].addcmul_(label, silence[t])
        if t < shortest:
            label, gap = said, quiet
        else:
            active = (t < lengths).unsqueeze(1)
            label, gap = torch.where(active, said, label), torch.where(active, quiet, gap)
        if t % 8 == 7:
            total = (label.sum(1) + gap.sum(1)).clamp(min=torch.finfo(probs.dtype).tiny)
            label, gap = label / total.unsqueeze(1), gap / total.unsqueeze(1)
            scale += total.log()
    count = real.sum(1, keepdim=True)
    end = gap.gather(1, count) + label.gather(1, (count - 1).clamp(min=0)) * (count > 0)
    return end.squeeze(1).log() + scale
