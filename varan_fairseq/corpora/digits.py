"""Spoken digit strings by espeak-ng, and the voices of all synthetic corpora."""

import os
import random
from typing import Callable, List, Sequence, Tuple

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from ..data.manifest import write_split
from .espeak import Espeak

RATE = 16000
PAUSE = (0.2, 1.0)  # seconds between phrases
WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
ACCENTS = ["en-us", "en-gb-x-rp", "en-gb-scotland"]
VOICES = {
    "train": [
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "f1",
        "f2",
        "f3",
        "Andy",
        "Annie",
        "Gene",
        "linda",
        "david",
        "Lee",
        "Mario",
        "Michael",
        "Mike",
        "Reed",
        "adam",
        "ed",
        "anika",
        "benjamin",
        "john",
        "michel",
        "belinda",
        "max",
        "pablo",
        "steph",
    ],
    "valid": ["m6", "f5"],
    "test": ["m7", "f4", "Alicia", "paul"],
}


def speak(
    espeak: Espeak, rng: random.Random, voices: Sequence[str], phrases: int = 1
) -> Tuple[List[str], np.ndarray]:
    """(digits, their samples at `RATE`) by one of the voices: 3 to 6 of them, or 1 .. `phrases`
    times as many with pauses between. `espeak.onsets` are of the last phrase."""
    count = rng.randint(1, phrases) if phrases > 1 else 1
    words = [rng.choices(WORDS, k=rng.randint(3, 6)) for _ in range(count)]
    read = _reader(espeak, rng, voices)
    waves: List[np.ndarray] = []
    for phrase in words:
        if waves:
            waves.append(_pause(espeak, rng))
        waves.append(read(phrase))
    return sum(words, []), resampled(np.concatenate(waves), espeak.sample_rate)


def speak_for(
    espeak: Espeak, rng: random.Random, voices: Sequence[str], shortest: float, longest: float
) -> Tuple[List[str], np.ndarray]:
    """The same for as many phrases, with pauses between, as last `shortest` to `longest` seconds, which
    are 4 or more apart: a phrase and a pause are shorter."""
    read = _reader(espeak, rng, voices)
    words: List[str] = []
    wave = np.zeros(0, np.int16)
    while len(wave) < shortest * espeak.sample_rate:
        phrase = rng.choices(WORDS, k=rng.randint(3, 6))
        before = [wave, _pause(espeak, rng)] if words else []
        longer = np.concatenate([*before, read(phrase)])
        if len(longer) <= longest * espeak.sample_rate:
            words, wave = words + phrase, longer
    return words, resampled(wave, espeak.sample_rate)


def _reader(
    espeak: Espeak, rng: random.Random, voices: Sequence[str]
) -> Callable[[Sequence[str]], np.ndarray]:
    """Reads phrases in one of the voices."""
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(voices)}"
    rate, pitch = rng.randint(140, 190), rng.randint(30, 70)
    return lambda phrase: espeak.speak(" ".join(phrase).lower(), voice, rate=rate, pitch=pitch)


def _pause(espeak: Espeak, rng: random.Random) -> np.ndarray:
    return np.zeros(int(rng.uniform(*PAUSE) * espeak.sample_rate), np.int16)


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    """int16 samples at a rate -> float32 at `RATE`."""
    return soxr.resample(wave.astype(np.float32) / 2**15, rate, RATE)


def make_split(
    out: str,
    data: str,
    split: str,
    count: int,
    rng: random.Random,
    speak_one: Callable[[int], Tuple[str, np.ndarray]],
) -> List[str]:
    """Writes `count` recordings with a little noise into `out` and the split's manifest into
    `data`; returns the transcripts. speak_one: (transcript, samples at `RATE`) of each number."""
    root = os.path.join(os.path.abspath(out), split)
    os.makedirs(root, exist_ok=True)
    entries, transcripts = [], []
    noise = np.random.default_rng(rng.randrange(2**32))
    for index in tqdm(range(count), desc=split, leave=False):
        text, wave = speak_one(index)
        wave = np.clip(wave + noise.normal(0, 0.003, len(wave)), -1, 1)
        name = f"{index:05d}.wav"
        soundfile.write(os.path.join(root, name), wave, RATE, subtype="PCM_16")
        entries.append((name, len(wave)))
        transcripts.append(text)
    write_split(data, split, root, entries, transcripts)
    return transcripts
