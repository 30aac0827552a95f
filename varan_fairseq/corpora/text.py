"""Text rules of the corpus scripts: named, explicit, applied in the order given."""

import argparse
import re
import unicodedata
from typing import Callable, Dict, List, Optional, Sequence

# Joiners of scripts that need them; other format characters are invisible rubbish.
_JOINERS = "\u200c\u200d"


# Languages with a dotless i: I and \u0131, \u0130 and i are its pairs.
_DOTLESS = ("tr", "az", "crh", "tt")
_DOT_ABOVE = "\u0307"


class Unusable(ValueError):
    """A text without a certain spoken form; says why, in words that can be counted."""


def lower(text: str, language: str) -> str:
    if language.split("-")[0] in _DOTLESS:
        text = text.replace("I" + _DOT_ABOVE, "i").replace("\u0130", "i").replace("I", "\u0131")
    # elsewhere, too, the dot of an i is not a letter of its own
    return text.lower().replace("i" + _DOT_ABOVE, "i")


def upper(text: str, language: str) -> str:
    return (text.replace("i", "\u0130") if language.split("-")[0] in _DOTLESS else text).upper()


def nfkc(text: str, language: str) -> str:
    """Ligatures, full width and presentation forms become the letters they stand for."""
    return unicodedata.normalize("NFKC", text)


def apostrophes(text: str, language: str) -> str:
    """Typographic apostrophes become '."""
    return re.sub("[\u2018\u2019\u02bc\u00b4`\uff07]", "'", text)


def no_punctuation(text: str, language: str) -> str:
    """Punctuation and symbols become blanks; ' and - stay inside a word, whose letters may bear
    marks and joiners."""
    kept = []
    for index, char in enumerate(text):
        around = text[max(index - 1, 0) : index] + text[index + 1 : index + 2]
        inside = char in "'-" and len(around) == 2 and all(map(_in_word, around))
        kept.append(char if inside or unicodedata.category(char)[0] not in "PS" else " ")
    return "".join(kept)


def _in_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN" or char in _JOINERS


def no_digits(text: str, language: str) -> str:
    """A text with digits is dropped: how they are read is not certain."""
    if any(char.isdigit() for char in text):
        raise Unusable("digits")
    return text


def no_brackets(text: str, language: str) -> str:
    """A text with brackets is dropped: they hold noises, alternatives, comments."""
    if re.search(r"[\[\](){}<>]", text):
        raise Unusable("brackets")
    return text


# Each takes a text and a language, as `tr`, or nothing for any.
RULES: Dict[str, Callable[[str, str], str]] = {
    "nfkc": nfkc,
    "lower": lower,
    "upper": upper,
    "apostrophes": apostrophes,
    "no-punctuation": no_punctuation,
    "no-digits": no_digits,
    "no-brackets": no_brackets,
}
DEFAULT = ("no-brackets", "no-digits", "apostrophes", "no-punctuation", "lower")


def add_text_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--text",
        nargs="*",
        choices=list(RULES),
        default=list(DEFAULT),
        metavar="RULE",
        help=f"rules for transcripts, in this order: {', '.join(RULES)}; default: "
        f"{' '.join(DEFAULT)}",
    )
    options.add_argument(
        "--language", default="", metavar="CODE", help="whose case it is: tr has a dotless i"
    )
    options.add_argument(
        "--alphabet", help="a text with other characters than these (and blanks) is dropped"
    )


def apply(
    text: str, rules: Sequence[str], alphabet: Optional[str] = None, language: str = ""
) -> str:
    """Words between single blanks, in Unicode's NFC. Raises `Unusable`."""
    text = unicodedata.normalize("NFC", text)
    for rule in rules:
        text = RULES[rule](text, language.lower().replace("_", "-"))
    text = "".join(char for char in text if char in _JOINERS or _visible(char))
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not text:
        raise Unusable("no words")
    if "|" in text:
        raise Unusable("| is the mark between words")
    if alphabet is not None:
        strange = sorted(set(text) - set(alphabet) - {" "})
        if strange:
            raise Unusable(f"outside the alphabet: {' '.join(strange[:5])}")
    return text


def _visible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def named(rules: List[str]) -> str:
    """Rules as a line of the log."""
    return f"text rules: NFC {' '.join(rules)}".rstrip()
