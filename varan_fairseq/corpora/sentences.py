"""English prose of Python's documentation, read by espeak-ng."""

import random
import re
from pydoc_data.topics import topics
from typing import List, Sequence, Tuple

import numpy as np

from .digits import ACCENTS, resampled
from .espeak import Espeak

WORDS = (3, 14)  # of a sentence
VALID = 0.02  # share of the sentences that are in validation


def sentences() -> List[str]:
    """Those of plain words alone, in capitals, sorted."""
    kept = set()
    for paragraph in re.split(r"\n\s*\n", "\n\n".join(topics.values())):
        for sentence in re.split(r"(?<=[.!?;:])\s+", " ".join(paragraph.split())):
            words = re.sub(r"[\"*`']{1,2}(\w+)[\"*`']{1,2}", r"\1", sentence.strip(".!?;: "))
            words = words.replace(",", "").replace("-", " ")
            plain = re.fullmatch(r"[A-Za-z][A-Za-z' ]+", words)
            if plain and WORDS[0] <= len(words.split()) <= WORDS[1]:
                kept.add(" ".join(words.upper().split()))
    return sorted(kept)


def read_aloud(
    espeak: Espeak, rng: random.Random, voices: Sequence[str], text: str
) -> Tuple[str, np.ndarray]:
    """(text, its samples at `RATE`) by one of the voices."""
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(voices)}"
    wave = espeak.speak(text.lower(), voice, rate=rng.randint(130, 200), pitch=rng.randint(25, 75))
    return text, resampled(wave, espeak.sample_rate)
