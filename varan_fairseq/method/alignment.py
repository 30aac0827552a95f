"""When each label was said: CTC forced alignment."""

from dataclasses import dataclass
from typing import List, Sequence

import numpy as np


@dataclass(frozen=True)
class Span:
    """Frames start .. end - 1 of a label, and its log-probability at the surest of them."""

    start: int
    end: int
    log_prob: float


def align(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> List[Span]:
    """The likeliest path of CTC that says the labels.

    log_probs: [T, V]. labels: S of them, without blanks. Returns a span a label; frames
    between spans are blank. Raises ValueError if no path says them: S labels, R of them like
    the one before, need S + R frames.
    """
    count, frames = len(labels), len(log_probs)
    if not count:
        return []
    symbols = np.asarray(labels)
    states = np.full(2 * count + 1, blank)  # a blank before, between and after the labels
    states[1::2] = symbols
    skips = np.zeros(len(states), dtype=bool)  # whether the blank before may be left out
    skips[3::2] = symbols[1:] != symbols[:-1]

    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probs[0, states[:2]]
    back = np.zeros((frames, len(states)), dtype=np.int8)  # states stepped over
    for t in range(1, frames):
        ways = np.full((3, len(states)), -np.inf)
        ways[0] = scores
        ways[1, 1:] = scores[:-1]
        ways[2, 2:] = np.where(skips[2:], scores[:-2], -np.inf)
        back[t] = ways.argmax(0)
        scores = ways.max(0) + log_probs[t, states]

    state = len(states) - 1 if scores[-1] >= scores[-2] else len(states) - 2
    if np.isneginf(scores[state]):
        raise ValueError(f"{count} labels do not fit into {frames} frames")
    path = np.empty(frames, dtype=np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= int(back[t, state])
    spans = []
    for index, label in enumerate(labels):
        where = np.flatnonzero(path == 2 * index + 1)
        best = float(log_probs[where, label].max())
        spans.append(Span(int(where[0]), int(where[-1]) + 1, best))
    return spans
