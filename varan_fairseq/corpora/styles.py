"""Four speaking styles by espeak-ng."""

import os
import random

import numpy as np
import soundfile
from tqdm import tqdm

from .digits import ACCENTS, RATE, VOICES, resampled
from .espeak import Espeak
from .labelled import Recording, audio_root

# Bounds of each parameter. A voice's own pitch differs more than that of two styles.
STYLES = {
    "angry": dict(pitch=(50, 70), range=(60, 85), rate=(195, 225), volume=(120, 160)),
    "happy": dict(pitch=(70, 95), range=(75, 100), rate=(160, 190), volume=(90, 130)),
    "neutral": dict(pitch=(40, 60), range=(35, 55), rate=(145, 175), volume=(80, 110)),
    "sad": dict(pitch=(15, 35), range=(5, 25), rate=(100, 130), volume=(45, 80)),
}
SUBJECTS = (
    "my sister,the old driver,our teacher,the cook,a tall boy,the doctor,his friend,the guard"
)
VERBS = "opened,forgot,painted,carried,found,washed,moved,locked"
OBJECTS = (
    "the red door,two boxes,the kitchen table,a letter,the garden gate,her coat,that lamp,the car"
)
TIMES = "this morning,after lunch,before the rain,on Monday,at noon,last week,by the river,again"


def sentences(rng: random.Random):
    """All sentences, shuffled: 8 x 8 x 8 x 8."""
    parts = [text.split(",") for text in (SUBJECTS, VERBS, OBJECTS, TIMES)]
    every = [
        f"{s} {v} {o} {t}" for s in parts[0] for v in parts[1] for o in parts[2] for t in parts[3]
    ]
    rng.shuffle(every)
    return every


def make_split(espeak: Espeak, out: str, split: str, texts, rng: random.Random):
    """Writes a recording a sentence; returns (recordings, samples of each name)."""
    os.makedirs(os.path.join(audio_root(out), split), exist_ok=True)
    recordings, samples = [], {}
    noise = np.random.default_rng(rng.randrange(2**32))
    for index, text in enumerate(tqdm(texts, desc=split, leave=False)):
        style = list(STYLES)[index % len(STYLES)]
        voice = rng.choice(VOICES[split])
        parameters = {key: rng.randint(*bounds) for key, bounds in STYLES[style].items()}
        wave = espeak.speak(text, f"{rng.choice(ACCENTS)}+{voice}", **parameters)
        wave = resampled(wave, espeak.sample_rate)
        wave = np.clip(wave + noise.normal(0, 0.003, len(wave)), -1, 1)
        name = f"{split}/{index:05d}.wav"
        path = os.path.join(audio_root(out), name)
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        recordings.append(Recording(path, name, style, voice))
        samples[name] = len(wave)
    return recordings, samples
