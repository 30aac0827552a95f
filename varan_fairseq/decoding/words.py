"""Words of labels: which labels make which word, by fairseq's names of spellings."""

from typing import List, NamedTuple, Sequence

import numpy as np
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process as fairseq_post_process

from ..method.alignment import align

# Marks of a spelling: where a word ends, or begins.
_END = {"letter": "|", "_EOW": "_EOW"}
_BEGIN = {"sentencepiece": "\u2581", "wordpiece": "_"}
_CONTINUED = {"subword_nmt": "@@", "@@ ": "@@", "@@": "@@"}


class Word(NamedTuple):
    """start, end: seconds. confidence: geometric mean, over its labels, of each label's
    probability in the frame of its alignment where it is surest."""

    text: str
    start: float
    end: float
    confidence: float


def check_post_process(name: str, option: str) -> None:
    """Raises ValueError for a spelling that fairseq does not know. option: that it came by."""
    try:
        fairseq_post_process("", name)
    except NotImplementedError:
        raise ValueError(
            f"{option}={name}: expected letter, sentencepiece, wordpiece, silence, subword_nmt, "
            "_EOW or none"
        ) from None


def words_of(units: Sequence[int], labels: Dictionary, post_process: str) -> List[List[int]]:
    """Positions in `units` of each word's labels; marks of the end of a word are of none.

    post_process: as `post_process` of fairseq. The words of what fairseq makes of the units are as
    many.
    """
    words: List[List[int]] = []
    fresh = True
    for position, unit in enumerate(units):
        symbol = labels.symbols[unit]
        end = _END.get(post_process)
        if end is not None and symbol == end or post_process == "silence" and symbol == "<SIL>":
            fresh = True
            continue
        begins = post_process in ("none", "silence") or fresh
        if post_process in _BEGIN:
            begins = begins or symbol.startswith(_BEGIN[post_process])
        if begins:
            words.append([])
        words[-1].append(position)
        fresh = end is not None and symbol.endswith(end)
        if post_process in _CONTINUED:
            fresh = not symbol.endswith(_CONTINUED[post_process])
    return [word for word in words if _text([units[i] for i in word], labels, post_process)]


def timed_words(
    log_probs: np.ndarray,
    units: Sequence[int],
    text: str,
    labels: Dictionary,
    post_process: str,
    blank: int,
    seconds: float,
    first: float = 0.0,
) -> List[Word]:
    """The words of a hypothesis with their times, by forced alignment of its labels.

    log_probs: [T, V], of what was searched. units, text: of the hypothesis. seconds: from frame to
    frame; first: time of the first frame. Words that a lexicon spells in an unusual way keep
    their own text where they are as many as the spelled ones.
    """
    groups = words_of(units, labels, post_process)
    spans = align(log_probs, units, blank)
    own = text.split()
    texts = own if len(own) == len(groups) else None
    words = []
    for index, group in enumerate(groups):
        spelled = (
            _text([units[i] for i in group], labels, post_process)
            if texts is None
            else texts[index]
        )
        mean = float(np.mean([spans[i].log_prob for i in group]))
        start = first + spans[group[0]].start * seconds
        end = first + spans[group[-1]].end * seconds
        words.append(Word(spelled, start, end, float(np.exp(min(mean, 0.0)))))
    return words


def _text(units: Sequence[int], labels: Dictionary, post_process: str) -> str:
    symbols = " ".join(labels.symbols[unit] for unit in units)
    return fairseq_post_process(symbols, post_process).strip()
