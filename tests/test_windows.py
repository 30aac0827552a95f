"""Long audio: windows cover every frame, and joining them loses and doubles no word."""

import itertools

import numpy as np
import pytest

from varan_fairseq.decoding.emissions import Emission
from varan_fairseq.inference.windows import Grid, Stitcher, make_grid, windows

BLANK, BOUNDARY = 0, 1
GRID = Grid(frames=100, overlap=20, hop=320, field=400)


def blocks(total, size):
    samples = np.arange(total, dtype=np.float32)
    return (samples[at : at + size] for at in range(0, total, size))


@pytest.mark.parametrize("frames", [1, 5, 99, 100, 101, 119, 120, 121, 200, 201, 1000])
@pytest.mark.parametrize("size", [1000, 7777, 10**6])
def test_windows_cover_every_frame(frames, size):
    total = GRID.samples(frames) + 137  # and some that make no further frame
    found = list(windows(blocks(total, size), GRID))
    assert [window.last for window in found] == [False] * (len(found) - 1) + [True]
    end = 0
    for window in found:
        assert window.samples[0] == window.start * GRID.hop
        assert (np.diff(window.samples) == 1).all()
        count = (len(window.samples) - GRID.field) // GRID.hop + 1
        assert count <= GRID.frames + GRID.overlap
        assert window.last or count == GRID.frames
        assert window.start == max(end - GRID.overlap, 0)
        end = window.start + count
    assert end == frames and (len(found) == 1 or count > GRID.overlap)


def test_audio_too_short_for_a_frame_has_no_window():
    assert list(windows(blocks(399, 100), GRID)) == []
    assert list(windows(iter(()), GRID)) == []


def test_a_grid_in_seconds():
    assert make_grid(20.0, 4.0, 16000, 320, 400) == Grid(1000, 200, 320, 400)
    for window, overlap in ((20, 0), (20, 11), (0, 0), (-1, -2)):
        with pytest.raises(
            ValueError, match="expected more than 0, and half a window|expected seconds"
        ):
            make_grid(window, overlap, 16000, 320, 400)
    for window in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="a window of .* s: expected seconds"):
            make_grid(window, 1.0, 16000, 320, 400)


def speech(rng, words):
    """(path of labels, words): letters of 1 to 3 frames, blanks, a boundary, then silence."""
    path, said = [0] * 3, []
    for _ in range(words):
        word = rng.integers(2, 8, rng.integers(1, 6)).tolist()
        for last, letter in zip([None, *word], word):
            gap = rng.integers(1 if letter == last else 0, 6)
            path += [BLANK] * gap + [letter] * rng.integers(1, 4)
        path += [BLANK] * rng.integers(0, 3) + [BOUNDARY] + [BLANK] * rng.integers(2, 25)
        said.append(tuple(word))
    return np.array(path), said


def emissions(path, rng):
    log_probs = np.log(np.full((len(path), 8), 0.02) * rng.uniform(0.5, 2, (len(path), 8)))
    log_probs[np.arange(len(path)), path] = np.log(0.8)
    return log_probs.astype(np.float32)


def words(log_probs):
    labels = [k for k, _ in itertools.groupby(log_probs.argmax(1)) if k != BLANK]
    groups = itertools.groupby(labels, lambda label: label == BOUNDARY)
    return [tuple(group) for boundary, group in groups if not boundary]


LONG = Grid(frames=300, overlap=100, hop=320, field=400)


def heard(path, rng, shift, boundary=BOUNDARY):
    """Segments of a recording whose windows are wrong near their edges, where there is no
    context, and say everything `shift` frames late or early, each window its own."""
    stitcher = Stitcher(LONG, BLANK, boundary)
    total = LONG.samples(len(path))
    for window in windows(blocks(total, 5000), LONG):
        count = (len(window.samples) - LONG.field) // LONG.hop + 1
        by = int(rng.integers(-shift, shift + 1))
        where = np.clip(np.arange(window.start, window.start + count) + by, 0, len(path) - 1)
        own = path[where].copy()
        if window.start:
            own[:20] = rng.integers(0, 8, 20)
        if not window.last:
            own[-20:] = rng.integers(0, 8, 20)
        log_q = np.log(np.full(3, 1 / 3))
        emission = Emission(emissions(own, rng), log_q, 1 + window.start % 3)
        yield from stitcher.add(emission, window.start, window.last)


@pytest.mark.parametrize("seed", range(20))
def test_no_word_is_lost_or_doubled(seed):
    rng = np.random.default_rng(seed)
    path, said = speech(rng, 200)
    segments = list(heard(path, rng, shift=1))
    assert [word for segment in segments for word in words(segment.log_probs)] == said
    start = 0
    for segment in segments:
        assert segment.start == start
        start += len(segment.log_probs)
        assert sum(part.frames for part in segment.parts) == len(segment.log_probs)
    assert start == len(path) and len(segments) > 10


def test_exact_windows_give_exact_frames():
    rng = np.random.default_rng(0)
    path, _ = speech(rng, 150)
    joined = np.concatenate([s.log_probs.argmax(1) for s in heard(path, rng, shift=0)])
    assert (joined == path).all()


def test_speech_without_a_pause_stays_in_one_segment():
    """No seam falls at the end of a word, until a segment would be too long."""
    rng = np.random.default_rng(1)
    path = np.repeat(rng.integers(2, 8, 700), 2)
    assert len(list(heard(path, rng, shift=0))) == 1
    # labels without boundaries: a segment ends wherever there is silence
    path, _ = speech(rng, 150)
    path[path == BOUNDARY] = BLANK
    assert len(list(heard(path, rng, shift=0, boundary=None))) > 10
    assert 2 <= len(list(heard(np.tile(path, 3), rng, shift=0))) < 6  # 16 windows each


def stitched(path, grid, rng):
    """Segments of a recording whose windows all say the same."""
    log_probs = emissions(path, rng)
    stitcher, segments = Stitcher(grid, BLANK, BOUNDARY), []
    samples = blocks(grid.samples(len(path)), 10**5)
    for window in windows(samples, grid):
        count = (len(window.samples) - grid.field) // grid.hop + 1
        part = log_probs[window.start : window.start + count]
        emission = Emission(part, np.zeros(1), 0)
        segments += stitcher.add(emission, window.start, window.last)
    return log_probs, segments


def check_whole(log_probs, segments):
    """Every frame is in one segment, in order."""
    assert np.array_equal(np.concatenate([s.log_probs for s in segments]), log_probs)
    assert [s.start for s in segments] == [
        0, *np.cumsum([len(s.log_probs) for s in segments])[:-1]
    ]  # fmt: skip
    assert all(sum(part.frames for part in s.parts) == len(s.log_probs) for s in segments)


@pytest.mark.parametrize("late", [1, 40, 79, 80, 81, 99, 100, 101, 119, 120, 150, 179, 250])
@pytest.mark.parametrize("long", [1, 3, 30, 90])
def test_a_boundary_that_comes_late(late, long):
    """A word whose end is said a long pause later, past the start of the window after the next."""
    path = np.full(700, BLANK)
    path[90:95] = 5
    path[95 + late : 95 + late + long] = BOUNDARY
    path[600:604] = 6
    log_probs, segments = stitched(path, GRID, np.random.default_rng(late))
    check_whole(log_probs, segments)
    assert sum((words(s.log_probs) for s in segments), []) == [(5,), (6,)]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_said_no_frame_is_lost(seed):
    rng = np.random.default_rng(seed)
    grid = Grid(int(rng.integers(8, 120)), 4, 320, 400)
    grid = Grid(grid.frames, int(rng.integers(1, grid.frames // 2 + 1)), 320, 400)
    change = np.cumsum(rng.random(int(rng.integers(1, 900))) < 0.1)
    path = rng.integers(0, 4, change[-1] + 1)[change]  # blanks, boundaries and letters, in runs
    check_whole(*stitched(path, grid, rng))
