"""What was said in a recording, and when: in memory, and as text, JSON, subtitles or CTM."""

import json
import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple

import numpy as np

from ..runtime.files import printable
from .subtitles import subtitles

if TYPE_CHECKING:
    from ..decoding.words import Word


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
        "file": printable(transcript.name),
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
    return list(subtitles(transcript.words, kind))


def _rounded(value: float) -> Any:
    return round(value, 4) if np.isfinite(value) else None


def _ctm(transcript: Transcript) -> Iterator[str]:
    """Fields of CTM are between blanks, so a name has none."""
    stem = os.path.splitext(os.path.basename(transcript.name))[0]
    name = "_".join(printable(stem).split())
    for word in transcript.words:
        text = word.text.replace(" ", "_")
        span = f"{word.start:.3f} {word.end - word.start:.3f}"
        yield f"{name} 1 {span} {text} {word.confidence:.4f}"
