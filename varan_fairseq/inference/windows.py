"""Audio of any length through an encoder: windows that overlap, joined where both hear silence.

Each window is a whole number of frames after the one before, so frames of neighbours coincide.
In the middle of the overlap, where both have context on either side, they are joined as
far as possible from any frame where either says something, between words if there are any between:
what one says a few frames later than the other is neither lost nor said twice. What lies between
two such seams at the end of a word is a segment, and can be searched on its own.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Iterable, Iterator, List, Optional

import numpy as np

if TYPE_CHECKING:
    from ..decoding.emissions import Emission

_MOST_PARTS = 16  # windows after which a segment ends at any silence


@dataclass(frozen=True)
class Grid:
    """frames: of a window. overlap: frames that neighbours share. hop: samples from frame to
    frame. field: samples of the first frame."""

    frames: int
    overlap: int
    hop: int
    field: int

    def samples(self, frames: int) -> int:
        """That so many frames are made of."""
        return (frames - 1) * self.hop + self.field


@dataclass(frozen=True)
class Window:
    """samples: float32. start: its first frame in the recording. last: nothing comes after it."""

    samples: np.ndarray
    start: int
    last: bool


@dataclass(frozen=True)
class Segment:
    """log_probs: [T, V]. start: its first frame in the recording. parts: emissions of the
    windows that it is of, with the number of frames that each gave."""

    log_probs: np.ndarray
    start: int
    parts: List["Part"]


@dataclass(frozen=True)
class Part:
    """frames: how many of a segment's. log_q: [K]. layer: as in `Emission`."""

    frames: int
    log_q: np.ndarray
    layer: int


def make_grid(window: float, overlap: float, rate: int, hop: int, field: int) -> Grid:
    """window, overlap: seconds. Raises ValueError if the overlap is not half of the window."""
    if not 0 < window < math.inf:
        raise ValueError(f"a window of {window:g} s: expected seconds")
    if not 0 < overlap <= window / 2:
        raise ValueError(
            f"an overlap of {overlap:g} s: expected more than 0, and half a window at most"
        )
    frames, shared = (max(int(seconds * rate) // hop, 4) for seconds in (window, overlap))
    return Grid(frames, min(shared, frames // 2), hop, field)


def windows(blocks: Iterable[np.ndarray], grid: Grid) -> Iterator[Window]:
    """Of a recording's samples, which come in blocks. The last one is longer than the others
    by up to an overlap, so none is short but that of a short recording; audio that is too
    short for a frame gives none."""
    size = grid.samples(grid.frames)
    most = grid.samples(grid.frames + grid.overlap)
    step = grid.frames - grid.overlap
    held: List[np.ndarray] = []
    count = start = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count > most:
            samples = np.concatenate(held)
            yield Window(samples[:size], start, False)
            held = [samples[step * grid.hop :]]
            count = len(held[0])
            start += step
    if count >= grid.field:
        yield Window(np.concatenate(held), start, True)


class Stitcher:
    """Joins the emissions of a recording's windows, in their order.

    blank: index of the label that says nothing. boundary: index of the
    label that ends a word, or None: then words end wherever nothing is said.
    """

    def __init__(self, grid: Grid, blank: int, boundary: Optional[int] = None):
        self.grid, self.blank, self.boundary = grid, blank, boundary
        self._held: List[np.ndarray] = []
        self._parts: List[Part] = []
        self._start = 0
        self._before: Optional[Emission] = None  # without frames that are held
        self._at = 0  # its first frame

    def add(self, emission: "Emission", start: int, last: bool) -> Iterator[Segment]:
        """emission: of a window that starts at frame `start`. Yields the segments that are
        complete."""
        skip = 0
        if self._before is not None:
            before = self._before.log_probs[max(start - self._at, 0) :]
            # a boundary that was waited for may have reached past the start of this window
            skip = max(self._at - start, 0)
            if len(before):
                skip += self._seam(before, emission.log_probs[skip : skip + len(before)])
            self._hold(self._before, start + skip - self._at)
            if not self._complete():
                # a model may say that a word has ended only when the next one begins
                end = self._boundary(emission.log_probs[skip:])
                self._hold(replace(emission, log_probs=emission.log_probs[skip:]), end)
                skip += end
            if self._complete():
                yield self._segment()
        self._before = replace(emission, log_probs=emission.log_probs[skip:])
        self._at = start + skip
        if last:
            self._hold(self._before, len(self._before.log_probs))
            self._before = None
            if self._held:
                yield self._segment()

    def _seam(self, before: np.ndarray, after: np.ndarray) -> int:
        """The frame of the overlap, [T, V] of both, that the later window resumes from."""
        paths = [before.argmax(1), after.argmax(1)]
        count = len(before)
        first, end = count // 4, max(3 * count // 4, count // 4 + 1)
        seams = np.arange(first, end)  # each before its frame
        spoken = np.zeros(count, dtype=bool)
        for path in paths:
            spoken |= (path != self.blank) & (path != self.boundary)
        spoken = np.flatnonzero(spoken)
        if not len(spoken):
            return (first + end) // 2
        away = np.abs(seams[:, None] - 0.5 - spoken).min(1)
        between = self._between_words(seams, spoken, *paths)
        if (between & (away > 1)).any():
            away[~between] = 0
        return first + int(away.argmax())

    def _between_words(self, seams, spoken, before, after) -> np.ndarray:
        """Whether the joint says that a word ends between what is said last before a seam and
        first after it."""
        if self.boundary is None:
            return np.ones(len(seams), dtype=bool)
        last = np.append(-1, spoken)[np.searchsorted(spoken, seams)]
        following = np.append(spoken, len(before))[np.searchsorted(spoken, seams)]
        ends = [np.append(0, np.cumsum(path == self.boundary)) for path in (before, after)]
        return (ends[0][seams] > ends[0][last + 1]) | (ends[1][following] > ends[1][seams])

    def _boundary(self, log_probs: np.ndarray) -> int:
        """Frames up to the end of a boundary that is the first thing said; 0 if it is not."""
        path = log_probs.argmax(1)
        spoken = np.flatnonzero(path != self.blank)
        if not len(spoken) or path[spoken[0]] != self.boundary:
            return 0
        after = np.flatnonzero(path[spoken[0] :] != self.boundary)
        return int(spoken[0] + (after[0] if len(after) else len(path) - spoken[0]))

    def _hold(self, emission: "Emission", frames: int) -> None:
        if not frames:
            return
        self._held.append(emission.log_probs[:frames])
        self._parts.append(Part(frames, emission.log_q, emission.layer))

    def _complete(self) -> bool:
        """Whether what is held ends with a word."""
        if not self._held:
            return False
        spoken = np.concatenate([log_probs.argmax(1) for log_probs in self._held])
        if spoken[-1] not in (self.blank, self.boundary):
            return False
        spoken = spoken[spoken != self.blank]
        ended = not len(spoken) or self.boundary is None or spoken[-1] == self.boundary
        return ended or len(self._parts) >= _MOST_PARTS

    def _segment(self) -> Segment:
        segment = Segment(np.concatenate(self._held), self._start, self._parts)
        self._start += len(segment.log_probs)
        self._held, self._parts = [], []
        return segment
