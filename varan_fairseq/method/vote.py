"""The transcript that the layers vote for, edit by edit (docs/combine.md, "The vote").

It begins as what the likeliest layer reads, its best path. Where another layer's best path differs
from it, that difference is an edit, and all layers judge it by CTC's exact likelihood, each over
its own frames:

    gain = sum_k q_k clip(log p_k(new | frames of k) - log p_k(old | frames of k), -CLIP, CLIP)

The frames of k lie between anchors: the nearest labels on either side of the edit that k's best path
shares with the transcript. So the layers need not put a label at the same frame, and one of
them may decide the third word, another the ninth. Edits with a gain above 0 go in, the best first,
where they do not touch a better one; then again, near what has changed.

`emission.py` makes an emission that says the transcript. Where most labels are contested, as by
heads that have learned nothing, an utterance falls back to the consensus of whole transcripts.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .combine import pick_layer
from .consensus import consensus_layer
from .emission import Reading, differences, nearest_layer, read_paths, say
from .kernels.edit_distance import shared_labels
from .kernels.stretches import Stretch, stretch_log_likelihood

CLIP = 8.0  # nats that one layer may count for or against an edit
CONTEXT = 1  # labels between an edit and an anchor
ROUNDS = 3
_NEAR = 2  # labels from a change within which edits are judged again
_LEAST = 1e-6  # of a gain
_AGREE = 0.4  # share of labels that the two likeliest layers have to share,
_FEW = 20  # if they have more than so many


@dataclass(frozen=True)
class Edit:
    """Labels instead of those at places start .. end - 1 of an utterance's transcript."""

    utterance: int
    start: int
    end: int
    labels: Tuple[int, ...]


@dataclass(frozen=True)
class Motion:
    """An edit that was judged. text: [S] labels, as they stood. votes: [L] float64, q_k clip(D_k) of each
    layer, whose sum is the gain. carried: whether it went in."""

    text: np.ndarray
    edit: Edit
    votes: np.ndarray
    carried: bool


def vote(
    log_probs: Sequence[Tensor], log_q: Tensor, lengths: Tensor, blank: int
) -> Tuple[Tensor, Tensor]:
    """An emission whose best path is the transcript that the layers vote for.

    Args:
        log_probs: L tensors [T, B, V], normalised over V, in at least float32; what padding holds
            has no effect.
        log_q: [B, L]. A layer of no weight has no say.
        lengths: [B], valid frames.
        blank: its index.

    Returns:
        The emission [T, B, V], normalised, and the layer [B] long, 0-based, that an utterance's is
        of, but for the frames in which another label was voted for; these have no gradient.
    """
    with torch.no_grad():
        ballot = Ballot(log_probs, log_q, lengths, blank)
        ballot.run()
        layer = torch.tensor(
            [nearest_layer(*ballot.about(b)) for b in range(len(log_q))], device=log_q.device
        )
        if ballot.given_up:
            at = torch.tensor(ballot.given_up, device=log_q.device)
            of_these = [layer[:, at] for layer in log_probs]
            layer[at] = consensus_layer(of_these, log_q[at], lengths[at], blank)
    picked = pick_layer(log_probs, layer)
    emission = picked.detach().clone() if picked.requires_grad else picked
    for b, chosen in enumerate(layer.tolist()):
        if b not in ballot.given_up:
            reading, place = ballot.readings[b][chosen], ballot.places[b][chosen]
            say(emission[: ballot.lengths[b], b], ballot.texts[b], reading, place, blank)
    if picked.requires_grad:
        emission = torch.where(emission == picked, picked, emission)
    return emission, layer


class Ballot:
    """Of a batch: the transcript of each utterance so far, and what the layers read.

    texts: [S] labels of each utterance. readings: of each utterance, those of its layers. places:
    for each label of the text its place in a layer's reading, or -1; None for a layer of no
    weight. weights: q [B, L] float64. given_up: utterances without a vote. minutes: a list that
    gets every `Motion`, in the order of the rounds, if one is given.
    """

    def __init__(
        self,
        log_probs: Sequence[Tensor],
        log_q: Tensor,
        lengths: Tensor,
        blank: int,
        minutes: Optional[List[Motion]] = None,
    ) -> None:
        self.log_probs, self.blank, self.minutes = log_probs, blank, minutes
        paths = torch.stack([layer.argmax(-1) for layer in log_probs])
        self.lengths: List[int] = lengths.tolist()
        self.readings = read_paths(paths.cpu().numpy(), self.lengths, blank)
        self.weights: np.ndarray = log_q.double().exp().cpu().numpy()
        # equal ones: the higher layer first, as `likeliest_layer`
        highest = self.weights.shape[1] - 1
        self.order = highest - np.argsort(-self.weights[:, ::-1], axis=1, kind="stable")
        self.texts = [row[first].labels for row, first in zip(self.readings, self.order[:, 0])]
        self.places: List[List[np.ndarray]] = [[] for _ in self.readings]
        self.given_up: List[int] = []

    def run(self) -> None:
        """All rounds."""
        fresh: Dict[int, List[Tuple[int, int]]] = {
            b: [(0, len(text))] for b, text in enumerate(self.texts)
        }
        self._give_up(fresh)
        for _ in range(ROUNDS):
            self._align(list(fresh))
            edits = list(dict.fromkeys(self._edits(fresh)))
            if not edits:
                return
            fresh = self._apply(edits, self._votes(edits))
            if not fresh:
                return
        self._align(list(fresh))

    def about(self, b: int) -> Tuple[np.ndarray, List[Reading], List[np.ndarray], np.ndarray]:
        """Text, readings, places and weights of an utterance."""
        return self.texts[b], self.readings[b], self.places[b], self.weights[b]

    def _give_up(self, fresh: Dict[int, List[Tuple[int, int]]]) -> None:
        """Leaves out utterances whose two likeliest layers share few labels: judging every
        difference of untrained heads takes long, and says nothing."""
        if self.weights.shape[1] < 2:
            return
        owners = [b for b in fresh if self.weights[b, self.order[b, 1]] > 0]
        pairs = [(self.texts[b], self.readings[b][self.order[b, 1]].labels) for b in owners]
        for b, (text, other), places in zip(owners, pairs, shared_labels(pairs)):
            longer = max(len(text), len(other))
            if longer > _FEW and (places >= 0).sum() < _AGREE * longer:
                self.given_up.append(b)
                self.places[b] = [np.full(len(text), -1)] * self.weights.shape[1]
                del fresh[b]

    def _align(self, utterances: Sequence[int]) -> None:
        wanted = []
        for b in utterances:
            text = self.texts[b]
            self.places[b] = [np.full(len(text), -1)] * len(self.readings[b])
            for k, reading in enumerate(self.readings[b]):
                if self.weights[b, k] <= 0:
                    continue
                if np.array_equal(reading.labels, text):
                    self.places[b][k] = np.arange(len(text))
                else:
                    wanted.append((b, k))
        pairs = [(self.texts[b], self.readings[b][k].labels) for b, k in wanted]
        for (b, k), places in zip(wanted, shared_labels(pairs)):
            self.places[b][k] = places

    def _edits(self, fresh: Dict[int, List[Tuple[int, int]]]) -> Iterator[Edit]:
        """What layers read otherwise, near stretches that are new."""
        for b, stretches in fresh.items():
            for k in self.order[b]:
                if self.weights[b, k] <= 0:
                    continue
                reading = self.readings[b][k]
                ours, theirs, gaps = differences(self.texts[b], reading, self.places[b][k])
                for gap in gaps:
                    start, end = int(ours[gap]) + 1, int(ours[gap + 1])
                    if any(
                        start <= last + _NEAR and end >= first - _NEAR for first, last in stretches
                    ):
                        new = reading.labels[theirs[gap] + 1 : theirs[gap + 1]]
                        yield Edit(b, start, end, tuple(new.tolist()))

    def _votes(self, edits: Sequence[Edit]) -> np.ndarray:
        """q_k clip(D_k) of each edit and layer, [N, L]."""
        spots: Dict[Tuple[int, int, int], List[int]] = {}
        for number, edit in enumerate(edits):
            spots.setdefault((edit.utterance, edit.start, edit.end), []).append(number)
        stretches: List[Stretch] = []
        judged = []  # edit, layer, what stands there, what is to
        for (b, start, end), numbers in spots.items():
            text = self.texts[b]
            for k in np.flatnonzero(self.weights[b] > 0).tolist():
                left, right, first, last = self._anchors(b, k, start, end)
                old = len(stretches)
                stretches.append(Stretch(b, k, first, last, text[left:right]))
                for number in numbers:
                    middle = np.array(edits[number].labels, text.dtype)
                    new = np.concatenate([text[left:start], middle, text[end:right]])
                    judged.append((number, k, old, len(stretches)))
                    stretches.append(Stretch(b, k, first, last, new))
        log_p = stretch_log_likelihood(self.log_probs, stretches, self.blank)
        of, layer, before, after = np.array(judged).T
        with np.errstate(invalid="ignore"):  # both -inf: no say
            change = log_p[after] - log_p[before]
        votes = np.zeros((len(edits), self.weights.shape[1]))
        votes[of, layer] = np.nan_to_num(change, posinf=CLIP, neginf=-CLIP).clip(-CLIP, CLIP)
        return votes * self.weights[[edit.utterance for edit in edits]]

    def _anchors(self, b: int, k: int, start: int, end: int) -> Tuple[int, int, int, int]:
        """Around places start .. end - 1 of a text: the labels left .. right - 1 between the anchors
        of a layer, both included, and its frames first .. last - 1 of them."""
        size, place, reading = len(self.texts[b]), self.places[b][k], self.readings[b][k]
        left, right = start - 1 - CONTEXT, end + CONTEXT
        while left >= 0 and place[left] < 0:
            left -= 1
        while right < size and place[right] < 0:
            right += 1
        first = int(reading.start[place[left]]) if left >= 0 else 0
        last = int(reading.end[place[right]]) if right < size else self.lengths[b]
        return max(left, 0), min(right + 1, size), first, last

    def _apply(self, edits: Sequence[Edit], votes: np.ndarray) -> Dict[int, List[Tuple[int, int]]]:
        """Puts the best edits that do not touch into the texts. Returns the stretches that are new,
        of utterances that changed."""
        gains = votes.sum(1)
        taken: Dict[int, List[Edit]] = {}
        for number in np.argsort(-gains, kind="stable"):
            if gains[number] <= _LEAST:
                break
            edit = edits[number]
            others = taken.setdefault(edit.utterance, [])
            if all(edit.end < other.start or edit.start > other.end for other in others):
                others.append(edit)
        if self.minutes is not None:
            for edit, of_layers in zip(edits, votes):
                carried = edit in taken.get(edit.utterance, [])
                text = self.texts[edit.utterance]
                self.minutes.append(Motion(text, edit, of_layers, carried))
        fresh: Dict[int, List[Tuple[int, int]]] = {}
        for b, chosen in taken.items():
            text, pieces, at, shift = self.texts[b], [], 0, 0
            fresh[b] = []
            for edit in sorted(chosen, key=lambda edit: edit.start):
                pieces += [text[at : edit.start], np.array(edit.labels, text.dtype)]
                fresh[b].append((edit.start + shift, edit.start + shift + len(edit.labels)))
                shift += len(edit.labels) - (edit.end - edit.start)
                at = edit.end
            self.texts[b] = np.concatenate([*pieces, text[at:]])
        return fresh
