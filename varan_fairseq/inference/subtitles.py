"""Subtitles of timed words: cues that can be read, none of them a left-over word."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, List, Sequence, Tuple

from ..data.unspaced import columns, joined

if TYPE_CHECKING:
    from ..decoding.words import Word

_PAUSE = 0.6  # seconds of silence that end a cue
_NEAR = 2.0  # seconds of silence over which a short one joins its neighbour
_SHORTEST, _LONGEST = 1.0, 6.0  # seconds of one
_WIDEST = 84  # columns of one: two lines


@dataclass(frozen=True)
class Cue:
    """start, end: seconds."""

    words: List[str]
    start: float
    end: float


def subtitles(words: "Sequence[Word]", kind: str) -> Iterator[str]:
    """Lines of a file. kind: srt or vtt."""
    if kind == "vtt":
        yield from ["WEBVTT", ""]
    for number, cue in enumerate(cues(words), start=1):
        if kind == "srt":
            yield str(number)
        yield f"{_clock(cue.start, kind)} --> {_clock(cue.end, kind)}"
        yield from _wrapped(cue.words)
        yield ""


def cues(words: "Sequence[Word]") -> List[Cue]:
    """Cues of at least a second where the next one leaves it that long."""
    parts = [part for run in _runs(words) for part in _divided(run)]
    found = []
    for index, part in enumerate(parts):
        latest = parts[index + 1][0].start if index + 1 < len(parts) else float("inf")
        end = max(part[-1].end, min(part[0].start + _SHORTEST, latest))
        found.append(Cue([word.text for word in part], part[0].start, end))
    return found


def _runs(words: "Sequence[Word]") -> "List[List[Word]]":
    """Words without a pause between them; a short run joins the nearer of its neighbours."""
    runs: List[List[Word]] = []
    for word in words:
        if runs and word.start - runs[-1][-1].end <= _PAUSE:
            runs[-1].append(word)
        else:
            runs.append([word])
    index = 0
    while index < len(runs):
        run = runs[index]
        if run[-1].end - run[0].start < _SHORTEST:
            near = [
                (runs[first + 1][0].start - runs[first][-1].end, first)
                for first in (index - 1, index)
                if 0 <= first < len(runs) - 1 and _fits(runs[first] + runs[first + 1])
            ]
            if near and min(near)[0] <= _NEAR:
                first = min(near)[1]
                runs[first : first + 2] = [runs[first] + runs[first + 1]]
                index = first
                continue
        index += 1
    return runs


def _fits(words: "Sequence[Word]") -> bool:
    """Whether words can be one cue; a single one always is."""
    if len(words) == 1:
        return True
    wide = columns(joined([word.text for word in words])) > _WIDEST
    return not wide and words[-1].end - words[0].start <= _LONGEST


def _divided(run: "List[Word]") -> "List[List[Word]]":
    """As few cues as fit, as even as can be, so that no word is left for a cue of its own."""
    best: List[Tuple[int, float, int]] = [(0, 0.0, 0)]  # cues, unevenness, start of the last
    for end in range(1, len(run) + 1):
        ways = []
        for start in range(end - 1, -1, -1):
            if not _fits(run[start:end]):
                break
            count, uneven, _ = best[start]
            width = columns(joined([word.text for word in run[start:end]]))
            ways.append((count + 1, uneven + width**2, start))
        best.append(min(ways))
    parts: List[List[Word]] = []
    end = len(run)
    while end:
        start = best[end][2]
        parts.insert(0, run[start:end])
        end = start
    return parts


def _wrapped(texts: Sequence[str]) -> List[str]:
    """One line, or two of about the same width."""
    whole = joined(texts)
    if columns(whole) <= _WIDEST // 2 or len(texts) < 2:
        return [whole]
    cuts = range(1, len(texts))
    both = [(joined(texts[:cut]), joined(texts[cut:])) for cut in cuts]
    return list(min(both, key=lambda pair: max(map(columns, pair))))


def _clock(seconds: float, kind: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60000)
    comma = "," if kind == "srt" else "."
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{comma}{milliseconds:03d}"
