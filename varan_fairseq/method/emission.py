"""What a layer reads, and an emission that says something else than its best path.

Decoders, alignments and confidences want an emission, not a transcript. So the emission of the layer
that reads most like the transcript is taken, and where it does not say it, the labels of the
likeliest path that does exchange their values with those that are said: each frame stays
normalised.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
from torch import Tensor

from .alignment import align


@dataclass(frozen=True)
class Reading:
    """The best path of a layer: labels [S], and first frame and end of each."""

    labels: np.ndarray
    start: np.ndarray
    end: np.ndarray


def read_paths(paths: np.ndarray, lengths: Sequence[int], blank: int) -> List[List[Reading]]:
    """paths: [L, T, B], one label per frame. Of each utterance, the reading of each layer."""
    return [
        [read_path(path[:length, b], blank) for path in paths] for b, length in enumerate(lengths)
    ]


def read_path(path: np.ndarray, blank: int) -> Reading:
    """path: [T]."""
    start = np.flatnonzero(np.append(True, path[1:] != path[:-1])[: len(path)])
    end = np.append(start[1:], len(path))[: len(start)]
    says = path[start] != blank
    return Reading(path[start][says], start[says], end[says])


def nearest_layer(
    text: np.ndarray, readings: Sequence[Reading], places: Sequence[np.ndarray], weights: np.ndarray
) -> int:
    """The layer with the fewest edits from a text; of several the likeliest, then the highest.
    places: of the text's labels in each reading."""
    wrong = [
        max(len(text), len(reading.labels)) - int((place >= 0).sum()) if weight > 0 else np.inf
        for reading, place, weight in zip(readings, places, weights)
    ]
    return min(range(len(wrong)), key=lambda k: (wrong[k], -weights[k], -k))


def differences(
    text: np.ndarray, reading: Reading, place: np.ndarray
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the shared labels stand in the text and in the reading, with both ends, -1 and length
    [N + 2]; and after which of them the two differ. place: of the text's labels, or -1."""
    shared = np.flatnonzero(place >= 0)
    ours = np.concatenate([[-1], shared, [len(text)]])
    theirs = np.concatenate([[-1], place[shared], [len(reading.labels)]])
    return ours, theirs, np.flatnonzero((np.diff(ours) > 1) | (np.diff(theirs) > 1))


def say(
    emission: Tensor, text: np.ndarray, reading: Reading, place: np.ndarray, blank: int
) -> None:
    """Changes an emission [T, V], whose best path is `reading`, so that its best path says `text`.
    place: of the text's labels in the reading, or -1. Raises ValueError if no path can say it."""
    ours, _, gaps = differences(text, reading, place)
    if not len(gaps):
        return
    before = emission.clone()
    for group in np.split(gaps, np.flatnonzero(np.diff(gaps) > 1) + 1):  # that share an anchor
        left, right = int(ours[group[0]]), int(ours[group[-1] + 1])
        _say_between(emission, text, reading, place, blank, left, right)
    if not np.array_equal(_says(emission, blank), text):
        emission.copy_(before)
        _exchange(emission, text.tolist(), blank)


def _says(emission: Tensor, blank: int) -> np.ndarray:
    return read_path(emission.argmax(1).cpu().numpy(), blank).labels


def _say_between(
    emission: Tensor,
    text: np.ndarray,
    reading: Reading,
    place: np.ndarray,
    blank: int,
    left: int,
    right: int,
) -> None:
    """Labels left .. right of the text, the first and last of which are said already (or beyond its
    ends); from farther away where these frames are too few."""
    while True:
        first = int(reading.start[place[left]]) if left >= 0 else 0
        last = int(reading.end[place[right]]) if right < len(text) else len(emission)
        try:
            _exchange(emission[first:last], text[max(left, 0) : right + 1].tolist(), blank)
            return
        except ValueError:
            if left < 0 and right >= len(text):
                raise
        left, right = left - 1, right + 1
        while left >= 0 and place[left] < 0:
            left -= 1
        while right < len(text) and place[right] < 0:
            right += 1


def _exchange(emission: Tensor, labels: List[int], blank: int) -> None:
    """Makes the likeliest path of the labels the best one, by exchanging values. emission: [T, V],
    changed in place. Raises ValueError if no path says them."""
    values = emission.cpu().numpy()
    if not len(values):
        if labels:
            raise ValueError(f"{len(labels)} labels do not fit into 0 frames")
        return
    wanted = np.full(len(values), blank)
    for label, span in zip(labels, align(values, labels, blank)):
        wanted[span.start : span.end] = label
    said = values.argmax(1)
    frame = np.flatnonzero(said != wanted)
    if not len(frame):
        return
    changed = values.copy()
    changed[frame, wanted[frame]] = values[frame, said[frame]]
    changed[frame, said[frame]] = values[frame, wanted[frame]]
    tie = np.flatnonzero(changed.argmax(1) != wanted)  # another label is as likely
    changed[tie, wanted[tie]] = np.nextafter(changed[tie, wanted[tie]], changed.dtype.type(np.inf))
    emission.copy_(emission.new_tensor(changed))
