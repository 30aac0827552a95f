"""Word and unit errors of transcripts: counts, rates, intervals, and text to look at."""

import unicodedata
from dataclasses import dataclass
from typing import Dict, Hashable, List, Optional, Sequence, Tuple

import editdistance

from .rates import interval, rate

_GAP = "*"


@dataclass(frozen=True)
class Edits:
    """Of one alignment: insertions, deletions, substitutions, length of the reference."""

    insertions: int
    deletions: int
    substitutions: int
    length: int

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions


def pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> List[Tuple[str, str]]:
    """(word of the reference, word of the hypothesis) of an alignment with the fewest errors;
    the empty string where the other has a word too many."""
    import kaldialign

    gap = _GAP
    while gap in reference or gap in hypothesis:
        gap += _GAP
    aligned = kaldialign.align(list(reference), list(hypothesis), gap)
    return [("" if a == gap else a, "" if b == gap else b) for a, b in aligned]


def edits(aligned: Sequence[Tuple[str, str]]) -> Edits:
    """Counts of what `pairs` returned."""
    insertions = sum(not reference for reference, _ in aligned)
    deletions = sum(not hypothesis for _, hypothesis in aligned)
    different = sum(reference != hypothesis for reference, hypothesis in aligned)
    return Edits(
        insertions, deletions, different - insertions - deletions, len(aligned) - insertions
    )


def distance(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> int:
    """The fewest edits, without an alignment."""
    return editdistance.eval(list(reference), list(hypothesis))


def summary(
    rows: Sequence[Edits],
    units: Sequence[Tuple[int, int]],
    speakers: Optional[Sequence[str]] = None,
) -> Dict[str, object]:
    """The scores of a split. rows: of its utterances' words. units: (errors, length) of each.
    speakers: of each, if they are known."""
    errors = [row.errors for row in rows]
    words = [row.length for row in rows]
    result: Dict[str, object] = {
        "utterances": len(rows),
        "wer": rate(sum(errors), sum(words)),
        "wer_interval": interval(errors, words),
        "words": sum(words),
        "insertions": sum(row.insertions for row in rows),
        "deletions": sum(row.deletions for row in rows),
        "substitutions": sum(row.substitutions for row in rows),
        "wrong_utterances": sum(error > 0 for error in errors),
        "uer": rate(sum(error for error, _ in units), sum(length for _, length in units)),
        "units": sum(length for _, length in units),
    }
    if speakers is not None:
        result["speakers"] = len(set(speakers))
        result["wer_interval_of_speakers"] = interval(errors, words, speakers)
    return result


def alignment_text(name: str, aligned: Sequence[Tuple[str, str]]) -> List[str]:
    """Lines for a person: reference and hypothesis one above the other, marked where they
    differ."""
    counts = edits(aligned)
    head = (
        f"{name}: {counts.errors} errors in {counts.length} words ({counts.substitutions} "
        f"substituted, {counts.deletions} deleted, {counts.insertions} inserted)"
    )
    widths = [max(width(a), width(b), 1) for a, b in aligned]
    kinds = ["I" if not a else "D" if not b else "" if a == b else "S" for a, b in aligned]
    lines = [
        ("  ref ", [a or "*" * size for (a, _), size in zip(aligned, widths)]),
        ("  hyp ", [b or "*" * size for (_, b), size in zip(aligned, widths)]),
        ("      ", kinds),
    ]
    shown = [
        (start + " ".join(text + " " * (size - width(text)) for text, size in zip(texts, widths)))
        for start, texts in lines
    ]
    return [head, *(line.rstrip() for line in shown if line.strip())]


def width(text: str) -> int:
    """Columns that a terminal gives a text."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.combining(char) > 0 for char in text)
    return len(text) + wide - marks
