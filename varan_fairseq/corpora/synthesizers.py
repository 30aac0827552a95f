"""Speech of three synthesizers that share neither voices nor code: espeak-ng (formants), flite
(clustered units of recordings) and festival (diphones)."""

import os
import random
import shutil
import subprocess
import tempfile
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import soundfile

from .digits import ACCENTS, RATE, VOICES, resampled
from .espeak import Espeak

LIMIT = 60  # seconds that one sentence may take a synthesizer
PROGRAMS = {"flite": "flite", "festival": "text2wave"}  # Debian's packages of the same names
PAUSE = (0.2, 0.5)  # seconds between sentences
_TRIES = 50  # sentences that may be too long for what is left of a recording


class Voice(NamedTuple):
    synthesizer: str
    name: str


def _voices(espeak: str, flite: Sequence[str] = (), festival: Sequence[str] = ()) -> List[Voice]:
    """espeak: the split of `digits.VOICES`."""
    names = {"espeak-ng": VOICES[espeak], "flite": flite, "festival": festival}
    return [Voice(kind, name) for kind in names for name in names[kind]]


# No voice is in two splits, and festival in the test set alone.
SPLITS: Dict[str, List[Voice]] = {
    "train": _voices("train", ["awb", "rms", "kal16"]),
    "valid": _voices("valid"),
    "test": _voices("test", ["slt"], ["voice_ked_diphone", "voice_cmu_us_slt_arctic_hts"]),
}


def missing_programs() -> List[str]:
    """Synthesizers that are not installed."""
    return [name for name, program in PROGRAMS.items() if shutil.which(program) is None]


def draw_voice(rng: random.Random, split: str) -> Voice:
    """One of a split's, each synthesizer as often as the others."""
    kinds = sorted({voice.synthesizer for voice in SPLITS[split]})
    kind = rng.choice(kinds)
    return rng.choice([voice for voice in SPLITS[split] if voice.synthesizer == kind])


class Reader:
    """Reads text aloud. One voice at a time, whose rate and pitch are drawn with it."""

    def __init__(self, rng: random.Random):
        self.rng, self.espeak = rng, Espeak()

    def recording(
        self, voice: Voice, texts: Sequence[str], shortest: float, longest: float
    ) -> Tuple[str, np.ndarray]:
        """(transcript, samples at `RATE`) of sentences drawn from `texts`, one after the other with
        pauses, that last `shortest` to `longest` seconds. Raises ValueError if none do."""
        speak = self._speaker(voice)
        said: List[str] = []
        wave = np.zeros(0, np.float32)
        for _ in range(_TRIES):
            text = self.rng.choice(texts)
            pause = np.zeros(int(self.rng.uniform(*PAUSE) * RATE) if said else 0, np.float32)
            longer = np.concatenate([wave, pause, speak(text.lower())])
            if len(longer) <= longest * RATE and text not in said:
                said, wave = [*said, text], longer
            if len(wave) >= shortest * RATE:
                return " ".join(said), wave
        raise ValueError(
            f"{_TRIES} sentences by {voice.synthesizer} {voice.name} make no {shortest:g} to "
            f"{longest:g} seconds: give a wider range"
        )

    def _speaker(self, voice: Voice) -> Callable[[str], np.ndarray]:
        if voice.synthesizer == "espeak-ng":
            name = f"{self.rng.choice(ACCENTS)}+{voice.name}"
            rate, pitch = self.rng.randint(130, 200), self.rng.randint(25, 75)
            return lambda text: resampled(
                self.espeak.speak(text, name, rate=rate, pitch=pitch), self.espeak.sample_rate
            )
        stretch = self.rng.uniform(0.85, 1.15)
        if voice.synthesizer == "flite":
            options = ["-voice", voice.name, "--setf", f"duration_stretch={stretch:.3f}"]
            return lambda text: _run(lambda out: ["flite", *options, "-t", text, "-o", out], "")
        scheme = f"({voice.name})"
        tempo = f"(Parameter.set 'Duration_Stretch {stretch:.3f})"
        return lambda text: _run(
            lambda out: ["text2wave", "-eval", scheme, "-eval", tempo, "-o", out], text
        )


def _run(command: Callable[[str], List[str]], text: str) -> np.ndarray:
    """What a program writes. command: its arguments, of the file that it writes. text: its input."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "speech.wav")
        arguments = command(path)
        done = subprocess.run(
            arguments, input=text, text=True, capture_output=True, timeout=LIMIT, check=False
        )
        if done.returncode or not os.path.exists(path):
            last = (done.stderr or done.stdout or "no message").strip().split("\n")[-1]
            raise RuntimeError(f"{' '.join(arguments)} failed: {last}")
        wave, rate = soundfile.read(path, dtype="int16")
    return resampled(wave, rate)
