"""Scripts without blanks between words: what counts as a word, and how words are joined."""

import unicodedata
from typing import List, Sequence

# By the names that Unicode gives to letters. Hangul is wide, and has blanks.
_SCRIPTS = (
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "KATAKANA-HIRAGANA"),
    *("BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR"),
)


def is_unspaced(char: str) -> bool:
    """Whether a letter is of a script that has no blanks between words."""
    return unicodedata.name(char, "").startswith(_SCRIPTS)


def word_parts(text: str) -> List[str]:
    """Words between blanks, and every letter of a script without blanks on its own."""
    parts: List[str] = []
    for word in text.split():
        inside = False
        for char in word:
            unspaced = is_unspaced(char)
            if inside and not unspaced:
                parts[-1] += char
            else:
                parts.append(char)
            inside = not unspaced
    return parts


def joined(words: Sequence[str]) -> str:
    """A text: blanks between words, but not between two letters of a script without any."""
    text = ""
    for word in filter(None, words):
        blank = text and not (is_unspaced(text[-1]) and is_unspaced(word[0]))
        text += f" {word}" if blank else word
    return text


def columns(text: str) -> int:
    """How wide a text is in a font of one width: wide letters take two, marks none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
