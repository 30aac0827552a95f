"""log p(y | frames first .. last - 1 of one layer) of many transcripts, each over its own frames.

The plain formula is `-F.ctc_loss(log_probs_k[first:last, b], y)`. On a CPU it is the forward
recursion of `forward_recursion`, whose states start with the stretch and stay as they are behind
it; on a GPU one `F.ctc_loss` whose classes are the labels of a transcript, as in
`ctc_likelihood`. Of the layers nothing but these stretches is copied.
"""

from typing import Iterator, List, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import on_host

TABLE_BYTES = 16 * 2**20  # of emissions at once
_RESCALED = 16  # frames between two looks at how small probabilities are


class Stretch(NamedTuple):  # of which there are thousands: a dataclass takes four times as long
    """Labels [S] that may be what a layer says of an utterance in frames first .. last - 1."""

    utterance: int
    layer: int
    first: int
    last: int
    labels: np.ndarray


def stretch_log_likelihood(
    log_probs: Sequence[Tensor], stretches: Sequence[Stretch], blank: int
) -> np.ndarray:
    """log_probs: L tensors [T, B, V]. Returns [N] float64, -inf where no path says the labels.
    A GPU is waited for once."""
    found = []
    order: List[int] = []
    for part in _of_a_size(stretches):
        order += part
        found.append(_log_likelihood(log_probs, [stretches[index] for index in part], blank))
    result = np.empty(len(stretches))
    if found:
        result[order] = torch.cat(found).cpu().numpy()
    return result


def _of_a_size(stretches: Sequence[Stretch]) -> Iterator[List[int]]:
    sizes = [(each.last - each.first, len(each.labels)) for each in stretches]
    part: List[int] = []
    longest = widest = 0
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        longest, width = sizes[index][0], max(widest, sizes[index][1])
        if part and 12 * longest * (width + 1) * (len(part) + 1) > TABLE_BYTES:
            yield _by_layer(part, stretches)
            part, width = [], sizes[index][1]
        part.append(index)
        widest = width
    if part:
        yield _by_layer(part, stretches)


def _by_layer(part: List[int], stretches: Sequence[Stretch]) -> List[int]:
    return sorted(part, key=lambda index: stretches[index].layer)


def _log_likelihood(log_probs: Sequence[Tensor], part: List[Stretch], blank: int) -> Tensor:
    """[N], on the device."""
    device, rows = log_probs[0].device, len(part)
    frames = np.array([each.last - each.first for each in part])
    width = max(len(each.labels) for each in part)
    labels = np.full((rows, width + 1), -1, np.int64)
    labels[:, 0] = blank
    for row, each in enumerate(part):
        labels[row, 1 : len(each.labels) + 1] = each.labels
    about = np.array([(each.layer, each.utterance, each.first) for each in part]).T
    sent = torch.from_numpy(np.concatenate([labels, about.T, frames[:, None]], 1)).to(device)
    seen, length = sent[:, : width + 1], sent[:, -1]
    utterance, first = sent[:, -3], sent[:, -2]
    time = torch.arange(int(frames.max()), device=device).unsqueeze(1)
    live = time < length  # [W, N]
    frame = torch.where(live, first + time, first)
    batch, classes = log_probs[0].shape[1:]
    where = ((frame * batch + utterance) * classes).unsqueeze(-1) + seen.clamp(min=0)
    emissions = log_probs[0].new_empty(where.shape)
    ends = np.searchsorted(about[0], np.arange(len(log_probs) + 1))
    for index, (begin, end) in enumerate(zip(ends, ends[1:])):  # not one copy of all layers
        if begin < end:
            emissions[:, begin:end] = log_probs[index].reshape(-1)[where[:, begin:end]]
    count = (seen[:, 1:] >= 0).sum(1)
    if on_host(emissions):
        return _recursion(emissions.double(), seen, live, count)
    return _ctc_loss(emissions.double(), seen, length, count)


def _recursion(emissions: Tensor, labels: Tensor, live: Tensor, count: Tensor) -> Tensor:
    """emissions: [W, N, S + 1], the blank first. labels: [N, S + 1], padded with -1. live: [W, N]."""
    probs = emissions.exp_()
    probs.masked_fill_((labels < 0) | ~live.unsqueeze(-1), 0.0)
    probs[..., 0].masked_fill_(~live, 1.0)  # silence behind a stretch changes nothing
    skip = F.pad((labels[:, 2:] != labels[:, 1:-1]).double(), (2, 0))
    label = torch.zeros_like(probs[0])
    gap = torch.zeros_like(label)
    gap[:, 0] = 1.0
    scale = torch.zeros_like(gap[:, 0])
    last = len(probs) - 1
    for time, frame in enumerate(probs):
        following = label.clone()
        following[:, 1:] += gap[:, :-1]
        following[:, 1:].addcmul_(label[:, :-1], skip[:, 1:])
        following.mul_(frame)[:, 0] = 0.0
        gap = (gap + label).mul_(frame[:, :1])
        label = following
        if time % _RESCALED == _RESCALED - 1 or time == last:
            mass = (label + gap).sum(1)
            scale += mass.log()
            mass = mass.masked_fill(mass == 0, 1.0).unsqueeze(1)
            label, gap = label / mass, gap / mass
    return scale + (label + gap).gather(1, count.unsqueeze(1)).squeeze(1).log()


def _ctc_loss(emissions: Tensor, labels: Tensor, length: Tensor, count: Tensor) -> Tensor:
    if labels.shape[1] == 1:  # F.ctc_loss wants a label
        emissions, labels = F.pad(emissions, (0, 1)), F.pad(labels, (0, 1))
    # Class j > 0: the label at place j. The same label twice in a row is one class, for CTC asks
    # whether neighbours are equal, and of nothing else.
    other = F.pad(labels[:, 2:] != labels[:, 1:-1], (1, 0), value=True)
    place = other.cumsum(1)
    column = torch.arange(1, labels.shape[1], device=labels.device).expand_as(place)
    classes = torch.zeros_like(labels).scatter_(1, place, column)
    emissions = emissions.gather(2, classes.expand(len(emissions), -1, -1))
    with torch.backends.cudnn.flags(enabled=False):  # not deterministic
        nll = F.ctc_loss(emissions, place, length, count, blank=0, reduction="none")
    return -nll
