"""Batched forward recursion, pruned: the score sum_k w_k log p_k(y | x) of many transcripts.

For one transcript y_1 .. y_S in one layer, with frame probabilities p_t and the gap after label j
(blanks) as a state of its own:

    gap_0(0) = 1, every other state is 0
    label_t(j) = p_t(y_j) * (label_{t-1}(j) + gap_{t-1}(j-1) + [y_j != y_{j-1}] label_{t-1}(j-1))
    gap_t(j) = p_t(blank) * (gap_{t-1}(j) + label_{t-1}(j))
    p(y | x) = label_T(S) + gap_T(S)

(label_t(0) stays 0). All transcripts run in all layers at once, in probabilities that are rescaled
now and then, and a transcript whose bound falls behind is dropped: no table of T rows and no
logarithm per state, so many times faster on a CPU than `F.ctc_loss` (`benchmarks/consensus.py`).
"""

from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ctc import CPU_TABLE_BYTES

FRAMES = 16  # between two looks at who is behind
TINY = 1e-250  # of what a transcript's beginnings have


def bytes_a_row(layers: int, width: int) -> int:
    """What `weighted_log_likelihood` needs for a transcript of `width` labels."""
    return 8 * layers * (width + 1) * 6


def weighted_log_likelihood(
    log_probs: Sequence[Tensor],
    weights: Tensor,
    utterance: Tensor,
    labels: Tensor,
    lengths: Tensor,
    blank: int,
    bound: Tensor,
) -> Tensor:
    """sum_k w_k log p_k(y | x) of many transcripts at once.

    A prefix's probability bounds the whole, so losing transcripts are dropped early. Alignments
    that fall below `TINY` of the others are dropped; where none is left, `F.ctc_loss` computes in
    logarithms.

    log_probs: L tensors [T, B, V]. weights: [N, L], not negative. utterance: [N], which of the B.
    labels: [N, S], padded with -1. lengths: [N], valid frames. bound: [N]. Returns [N] float64,
    -inf where it is below `bound`.
    """
    race = _Race(log_probs, weights, utterance, labels, lengths, blank, bound)
    ends = {*range(FRAMES, log_probs[0].shape[0], FRAMES), *lengths.tolist()}
    start = 0
    for end in sorted(ends):
        if not len(race.row):
            break
        race.run(start, end)
        race.finish(end)
        start = end
    return race.result()


class _Race:
    """Transcripts in layers: P pairs of a row, of the N transcripts, and a layer.

    A pair's states are label j, in column j of label [P, S + 1] whose column 0 is empty, and the
    gap after it, in column j of gap. Its probability is what they hold times exp(scale)."""

    def __init__(self, log_probs, weights, utterance, labels, lengths, blank, bound):
        self.log_probs, self.weights, self.bound = log_probs, weights, bound
        self.utterance, self.labels, self.lengths, self.blank = utterance, labels, lengths, blank
        self.row, self.layer = (weights > 0).nonzero(as_tuple=True)
        self.log_p = torch.zeros_like(weights)
        self.lost = torch.zeros_like(weights, dtype=torch.bool)  # underflown
        self.behind = torch.zeros_like(utterance, dtype=torch.bool)
        self.count = (labels >= 0).sum(1, keepdim=True)
        classes = log_probs[0].shape[-1]
        # a class of probability 0, for padding
        seen = F.pad(labels.masked_fill(labels < 0, classes), (1, 0), value=blank)
        column = self.layer * log_probs[0].shape[1] + utterance[self.row]
        self.place = (column.unsqueeze(1) * (classes + 1) + seen[self.row]).int()
        # no blank between label j and the one before
        skip = F.pad(labels[:, 1:] != labels[:, :-1], (2, 0))
        self.skip = skip.double()[self.row]
        self.label = torch.zeros_like(self.skip)
        self.gap = torch.zeros_like(self.skip)
        self.gap[:, 0] = 1.0
        self.scale = weights.new_zeros(len(self.row))

    def run(self, start: int, end: int) -> None:
        """The recursion over these frames."""
        label, gap, following = self.label, self.gap, torch.zeros_like(self.label)
        place, skip = self.place.flatten(), self.skip.flatten()[1:]
        for frame in self._probs(start, end):
            probs = frame.index_select(0, place).view(self.place.shape)
            # Over all rows as one, which is what a CPU does fastest; column 0 is mended after.
            before, after = label.flatten(), following.flatten()[1:]
            torch.add(before[1:], gap.flatten()[:-1], out=after)
            after.addcmul_(before[:-1], skip)
            following.mul_(probs)[:, 0] = 0.0
            gap.add_(label).mul_(probs[:, :1])
            label, following = following, label
        total = (label + gap).sum(1)
        self.scale += total.log().masked_fill(total == 0, 0.0)
        total.masked_fill_(total == 0, 1.0).unsqueeze_(1)
        # what lies below is slow to compute with
        self.label = F.threshold(label.div_(total), TINY, 0.0, inplace=True)
        self.gap = F.threshold(gap.div_(total), TINY, 0.0, inplace=True)

    def _probs(self, start: int, end: int) -> Tensor:
        """Of all classes, [frames, L * B * (V + 1)]."""
        shape = (end - start, len(self.log_probs), *self.log_probs[0].shape[1:])
        probs = F.pad(self.scale.new_empty(shape), (0, 1))
        for layer, log_probs in enumerate(self.log_probs):
            torch.exp(log_probs[start:end].double(), out=probs[:, layer, :, :-1])
        return probs.flatten(1)

    def finish(self, end: int) -> None:
        """Takes out pairs whose last frame that was, and those of transcripts that are behind."""
        over = self.lengths[self.row] == end
        states = self.label + self.gap
        last = states.gather(1, self.count[self.row]).squeeze(1)
        left = torch.where(over, last, states.sum(1))
        log_p = self.scale + left.clamp(min=torch.finfo(left.dtype).tiny).log()
        self.log_p[self.row, self.layer] = log_p
        self.lost[self.row, self.layer] = over & (left == 0)
        self.behind |= (self.weights * self.log_p).sum(1) < self.bound
        stays = ~(over | self.behind[self.row])
        if not stays.all():
            names = ("layer", "row", "place", "skip", "label", "gap", "scale")
            for name in names:
                setattr(self, name, getattr(self, name)[stays])

    def result(self) -> Tensor:
        """[N]; what underflowed is computed in logarithms, where it is not behind anyway."""
        row, layer = (self.lost & ~self.behind.unsqueeze(1)).nonzero(as_tuple=True)
        for index in layer.unique().tolist():
            rows = row[layer == index]
            self.log_p[rows, index] = self._in_logarithms(self.log_probs[index], rows)
        score = (self.weights * self.log_p).sum(1)
        return score.masked_fill(score < self.bound, float("-inf"))

    def _in_logarithms(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        table = log_probs.shape[0] * (2 * self.labels.shape[1] + 1 + log_probs.shape[2])
        scores = []
        for part in rows.split(max(1, CPU_TABLE_BYTES // (table * log_probs.element_size()))):
            with torch.backends.cudnn.flags(enabled=False):  # not deterministic
                nll = F.ctc_loss(
                    log_probs[:, self.utterance[part]],
                    self.labels[part].clamp(min=0),
                    self.lengths[part],
                    self.count[part].squeeze(1),
                    blank=self.blank,
                    reduction="none",
                )
            scores.append(-nll.double())
        return torch.cat(scores)
