"""What was said in a recording, and when: in memory, and as text, JSON, subtitles or CTM."""

import json
import os
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence

import numpy as np

if TYPE_CHECKING:
    from ..decoding.words import Word

_PAUSE = 0.6  # seconds of silence that end a subtitle
_LONGEST = 6.0  # seconds of one
_WIDEST = 84  # characters of one: two lines


class Utterance(NamedTuple):
    """A stretch of a recording that was decoded as one. start, end: seconds. layer_posterior:
    q(l|x) float32 [L], lowest layer first. layer: the one layer it was read from, 1 .. L, or 0 if
    several had a say, or more than one window of the audio is in it."""

    text: str
    start: float
    end: float
    words: "List[Word]"
    layer_posterior: np.ndarray
    layer: int

    @property
    def confidence(self) -> float:
        """Mean of its words', weighted by their letters; NaN if there are none."""
        if not self.words:
            return float("nan")
        lengths = [len(word.text) for word in self.words]
        return float(np.average([word.confidence for word in self.words], weights=lengths))


class Transcript(NamedTuple):
    """Of a recording. name: of the file."""

    name: str
    utterances: List[Utterance]

    @property
    def text(self) -> str:
        return " ".join(utterance.text for utterance in self.utterances if utterance.text)

    @property
    def words(self) -> "List[Word]":
        return [word for utterance in self.utterances for word in utterance.words]

    @property
    def layer_posterior(self) -> np.ndarray:
        """Mean over the utterances, weighted by their durations: float32 [L]."""
        weights = [max(utterance.end - utterance.start, 1e-9) for utterance in self.utterances]
        rows = [utterance.layer_posterior for utterance in self.utterances]
        return np.average(rows, axis=0, weights=weights).astype(np.float32)


def as_json(transcript: Transcript) -> Dict[str, Any]:
    """What a line of JSONL holds."""
    return {
        "file": transcript.name,
        "text": transcript.text,
        "segments": [
            {
                "start": round(utterance.start, 3),
                "end": round(utterance.end, 3),
                "text": utterance.text,
                "confidence": _rounded(utterance.confidence),
                "layer": utterance.layer or None,
                "layer_posterior": [round(float(q), 4) for q in utterance.layer_posterior],
                "words": [
                    {
                        "word": word.text,
                        "start": round(word.start, 3),
                        "end": round(word.end, 3),
                        "confidence": _rounded(word.confidence),
                    }
                    for word in utterance.words
                ],
            }
            for utterance in transcript.utterances
        ],
    }


def lines(transcript: Transcript, kind: str) -> List[str]:
    """A transcript in one of `inference.FORMATS`, but for `text` complete in itself."""
    if kind == "text":
        return [transcript.text]
    if kind == "jsonl":
        return [json.dumps(as_json(transcript), ensure_ascii=False)]
    if kind == "ctm":
        return list(_ctm(transcript))
    return list(_subtitles(transcript.words, kind))


def _rounded(value: float) -> Any:
    return round(value, 4) if np.isfinite(value) else None


def _ctm(transcript: Transcript) -> Iterator[str]:
    """Fields of CTM are between blanks, so a name has none."""
    name = os.path.splitext(os.path.basename(transcript.name))[0].replace(" ", "_")
    for word in transcript.words:
        text = word.text.replace(" ", "_")
        span = f"{word.start:.3f} {word.end - word.start:.3f}"
        yield f"{name} 1 {span} {text} {word.confidence:.4f}"


def _subtitles(words: "Sequence[Word]", kind: str) -> Iterator[str]:
    if kind == "vtt":
        yield from ["WEBVTT", ""]
    for number, cue in enumerate(_cues(words), start=1):
        if kind == "srt":
            yield str(number)
        yield f"{_clock(cue[0].start, kind)} --> {_clock(cue[-1].end, kind)}"
        yield from _wrapped([word.text for word in cue])
        yield ""


def _cues(words: "Iterable[Word]") -> "Iterator[List[Word]]":
    cue: List[Word] = []
    for word in words:
        if cue and (
            word.start - cue[-1].end > _PAUSE
            or word.end - cue[0].start > _LONGEST
            or sum(len(earlier.text) + 1 for earlier in cue) + len(word.text) > _WIDEST
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _wrapped(texts: Sequence[str]) -> List[str]:
    """One line, or two of about the same length."""
    whole = " ".join(texts)
    if len(whole) <= _WIDEST // 2 or len(texts) < 2:
        return [whole]
    cuts = range(1, len(texts))
    both = [(" ".join(texts[:cut]), " ".join(texts[cut:])) for cut in cuts]
    return list(min(both, key=lambda pair: max(map(len, pair))))


def _clock(seconds: float, kind: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60000)
    comma = "," if kind == "srt" else "."
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{comma}{milliseconds:03d}"
