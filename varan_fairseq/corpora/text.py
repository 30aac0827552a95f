"""Text rules of the corpus scripts: named, explicit, applied in the order given."""

import argparse
import re
import unicodedata
from typing import Callable, Dict, List, Optional, Sequence

# Joiners of scripts that need them; other format characters are invisible rubbish.
_JOINERS = "\u200c\u200d"


class Unusable(ValueError):
    """A text without a certain spoken form; says why, in words that can be counted."""


def lower(text: str) -> str:
    return text.lower()


def upper(text: str) -> str:
    return text.upper()


def apostrophes(text: str) -> str:
    """Typographic apostrophes become '."""
    return re.sub("[\u2018\u2019\u02bc\u00b4`\uff07]", "'", text)


def no_punctuation(text: str) -> str:
    """Punctuation and symbols become blanks; ' and - stay inside a word."""
    kept = []
    for index, char in enumerate(text):
        around = text[max(index - 1, 0) : index] + text[index + 1 : index + 2]
        inside = char in "'-" and len(around) == 2 and around.isalnum()
        kept.append(char if inside or unicodedata.category(char)[0] not in "PS" else " ")
    return "".join(kept)


def no_digits(text: str) -> str:
    """A text with digits is dropped: how they are read is not certain."""
    if any(char.isdigit() for char in text):
        raise Unusable("digits")
    return text


def no_brackets(text: str) -> str:
    """A text with brackets is dropped: they hold noises, alternatives, comments."""
    if re.search(r"[\[\](){}<>]", text):
        raise Unusable("brackets")
    return text


RULES: Dict[str, Callable[[str], str]] = {
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
        "--alphabet", help="a text with other characters than these (and blanks) is dropped"
    )


def apply(text: str, rules: Sequence[str], alphabet: Optional[str] = None) -> str:
    """Words between single blanks, in Unicode's NFC. Raises `Unusable`."""
    text = unicodedata.normalize("NFC", text)
    for rule in rules:
        text = RULES[rule](text)
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
