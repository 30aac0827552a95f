"""Which labels two transcripts share, of many pairs at once.

For transcripts a_1 .. a_n and b_1 .. b_m, the fewest insertions, deletions and substitutions:

    d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j]),  d(i, 0) = i, d(0, j) = j

Followed back from d(n, m), diagonals first, then deletions, then insertions, the diagonals of cost
0 are what is shared. A row of d is computed for all pairs in a few steps of numpy: insertions along
it are a running minimum of d(i, j) - j.
"""

from typing import Iterator, List, Sequence, Tuple

import numpy as np

TABLE_BYTES = 16 * 2**20  # of d at once


def shared_labels(pairs: Sequence[Tuple[np.ndarray, np.ndarray]]) -> List[np.ndarray]:
    """Of each pair (a [n], b [m]): for every label of a its place in b, or -1. [n] each."""
    found: List[np.ndarray] = [np.zeros(0, np.int64)] * len(pairs)
    for part in _of_a_size(pairs):
        for index, places in zip(part, _shared([pairs[index] for index in part])):
            found[index] = places
    return found


def _of_a_size(pairs: Sequence[Tuple[np.ndarray, np.ndarray]]) -> Iterator[List[int]]:
    """Pairs of about the same length together, as many as the table holds."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]))
    part: List[int] = []
    widest = 0
    for index in order:
        one, other = pairs[index]
        width = max(widest, len(other) + 1)
        if part and 4 * (len(one) + 1) * width * (len(part) + 1) > TABLE_BYTES:
            yield part
            part, width = [], len(other) + 1
        part.append(index)
        widest = width
    if part:
        yield part


def _shared(pairs: List[Tuple[np.ndarray, np.ndarray]]) -> List[np.ndarray]:
    count = len(pairs)
    n, m = (np.array([len(pair[side]) for pair in pairs]) for side in (0, 1))
    a = np.full((count, n.max()), -1, np.int64)
    b = np.full((count, m.max()), -2, np.int64)
    for row, (one, other) in enumerate(pairs):
        a[row, : len(one)], b[row, : len(other)] = one, other
    steps = np.arange(b.shape[1] + 1, dtype=np.int32)
    cost = np.empty((a.shape[1] + 1, count, b.shape[1] + 1), np.int32)
    cost[0] = steps
    for i in range(1, len(cost)):
        before, now = cost[i - 1], cost[i - 1] + 1
        np.minimum(now[:, 1:], before[:, :-1] + (a[:, i - 1 : i] != b), out=now[:, 1:])
        cost[i] = np.minimum.accumulate(now - steps, axis=1) + steps
    places = np.full(a.shape, -1, np.int64)
    every, up, across = np.arange(count), n.copy(), m.copy()
    while True:
        live = (up > 0) & (across > 0)
        if not live.any():
            break
        above, left = np.maximum(up - 1, 0), np.maximum(across - 1, 0)
        here = cost[up, every, across]
        equal = a[every, up - 1] == b[every, across - 1]
        diagonal = live & (here == cost[above, every, left] + ~equal)
        deletion = live & ~diagonal & (here == cost[above, every, across] + 1)
        insertion = live & ~diagonal & ~deletion
        hit = diagonal & equal
        places[every[hit], up[hit] - 1] = across[hit] - 1
        up, across = up - (diagonal | deletion), across - (diagonal | insertion)
    return [places[row, : n[row]] for row in range(count)]
