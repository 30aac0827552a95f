"""Whether a lexicon, a language model and the references are of the same words.

A decoder takes any of them, and a language model that knows none of the words weighs all of them
alike: the result is a WER like any other.
"""

import logging
from typing import Any, Callable, Iterable, List, Optional, Sequence, Set, Tuple

from fairseq.data import Dictionary

from ..data.manifest import read_lines, refuse_bom

logger = logging.getLogger(__name__)

_IN_LM, _IN_LEXICON = 0.5, 0.8  # shares of words below which a warning is due
_EXAMPLES = 5


def read_lexicon(path: str, labels: Dictionary, post_process: str) -> List[str]:
    """The words of a lexicon. post_process: fairseq's, that makes words of labels. Raises
    ValueError for a line that is not `word<TAB>labels`, for labels that the model lacks, and for
    spellings without the mark after a word that the model writes."""
    refuse_bom(path)
    words, open_ended = [], []
    for number, line in enumerate(read_lines(path), start=1):
        word, *spelling = line.split() or [""]
        where = f"decoding.lexicon={path}, line {number}: {line!r}"
        if not spelling:
            raise ValueError(f"{where}, expected a word, a tab and its labels")
        for label in spelling:
            if labels.indices.get(label, labels.unk()) == labels.unk():
                known = " ".join(labels.symbols[labels.nspecial :][:12])
                raise ValueError(
                    f"{where}: {label!r} is not a label of the model, it has {known} .."
                )
        words.append(word)
        if spelling[-1] != "|":
            open_ended.append(f"line {number}: {line!r}")
    if not words:
        raise ValueError(f"decoding.lexicon={path} is empty")
    if post_process == "letter" and "|" in labels.indices and open_ended:
        raise ValueError(
            f"decoding.lexicon={path}, {open_ended[0]}: {len(open_ended)} of {len(words)} spellings "
            "lack the mark | after the word, which the model says"
        )
    return words


def check_language_model(decoding: Any, decoder: Any, words: Optional[Sequence[str]]) -> None:
    """Of fairseq's decoder that has read both: raises ValueError if the language model knows none
    of the words (of the labels, without a lexicon), warns if it knows few."""
    if words is None:
        known = _known_to_kenlm(decoding.lmpath, decoder)
        units = list(decoder.tgt_dict.symbols[decoder.tgt_dict.nspecial :])
        what = f"labels, as decoding.unitlm=true has it ({' '.join(units[:12])} ..)"
    elif decoding.unitlm:
        return
    else:
        units, what = list(dict.fromkeys(words)), f"words of decoding.lexicon={decoding.lexicon}"
        if hasattr(decoder.word_dict, "unk"):  # fairseq's, of its own language models
            symbols = set(decoder.word_dict.symbols)
            known = symbols.__contains__
        else:
            known = _known_to_kenlm(decoding.lmpath, decoder)
    missing = [unit for unit in units if not known(unit)]
    _judge(f"decoding.lmpath={decoding.lmpath} knows", units, missing, what, _IN_LM)


def check_references(lexicon: str, words: Iterable[str], texts: Sequence[str]) -> None:
    """Raises ValueError if none of the words of the references is in a lexicon, so that none can
    be found; warns if many are not."""
    there: Set[str] = set(words)
    said = [word for text in texts for word in text.split()]
    missing = [word for word in said if word not in there]
    _judge(f"decoding.lexicon={lexicon} has", said, missing, "words of the references", _IN_LEXICON)


def _judge(
    subject: str, units: Sequence[str], missing: Sequence[str], what: str, least: float
) -> None:
    count = len(units) - len(missing)
    share = count / len(units) if units else 1.0
    if share >= least:
        return
    examples = ", ".join(map(repr, list(dict.fromkeys(missing))[:_EXAMPLES]))
    text = f"{subject} {count} of {len(units)} {what}, and not {examples}"
    if not count:
        raise ValueError(f"{text}: is it of another case, or another language?")
    logger.warning("%s (%.0f%%)", text, 100 * share)


def _known_to_kenlm(path: str, decoder: Any) -> Callable[[str], bool]:
    """By the list of an ARPA file. A binary one has no list that can be read: a word that it does
    not know begins and ends a sentence as `<unk>` does."""
    listed = _unigrams(path)
    if listed is not None:
        return listed.__contains__
    lm, start = decoder.lm, decoder.lm.start(False)

    def scores(word: str) -> Tuple[float, float]:
        after, score = lm.score(start, decoder.word_dict.get_index(word))
        return score, lm.finish(after)[1]

    unknown = scores("<unk>")
    return lambda word: scores(word) != unknown


def _unigrams(path: str) -> Optional[Set[str]]:
    """Words of an ARPA file; None if it is none."""
    words: Set[str] = set()
    with open(path, "rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
        if first.strip() != b"\\data\\":
            return None
        inside = False
        for line in lines:
            if line.startswith(b"\\"):
                if inside:
                    break
                inside = line.strip() == b"\\1-grams:"
            elif inside and line.strip():
                fields = line.split()
                words.add(fields[1].decode("utf-8", "replace") if len(fields) > 1 else "")
    return words
