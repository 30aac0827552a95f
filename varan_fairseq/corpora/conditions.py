"""What each condition does to the audio of a corpus."""

import os
import shutil
from typing import Callable, Dict, List

import numpy as np
import soundfile
from scipy import signal
from tqdm import tqdm

from ..data.audio import read_audio
from ..data.manifest import manifest_rows, read_manifest
from ..runtime.files import write_lines

RATE = 16000
BAND = (300, 3400)  # Hz, of a telephone
REVERBERATION = 0.6  # seconds until an echo has lost 60 dB
DIRECT_TO_ECHOES = 0.0  # dB: as loud as each other
NOISE = 5.0  # dB below the speech


def clean(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave


def telephone(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    filters = signal.butter(8, BAND, "bandpass", fs=RATE, output="sos")
    return signal.sosfilt(filters, wave)


def reverberant(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Echoes as of a room: noise that dies away (Polack's model), after the direct sound."""
    seconds = np.arange(int(REVERBERATION * RATE)) / RATE
    echoes = rng.normal(size=len(seconds)) * 10 ** (-3 * seconds / REVERBERATION)
    echoes[0] = 0
    echoes *= 10 ** (-DIRECT_TO_ECHOES / 20) / np.sqrt(np.square(echoes).sum())
    return wave + signal.fftconvolve(wave, echoes)[: len(wave)]


def noisy(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pink noise, whose power falls with the frequency as that of speech about does."""
    spectrum = np.fft.rfft(rng.normal(size=len(wave)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(wave))
    power = np.square(wave).mean() / 10 ** (NOISE / 10)
    return wave + noise * np.sqrt(power / max(np.square(noise).mean(), 1e-20))


CONDITIONS: Dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "clean": clean,
    "telephone": telephone,
    "reverberant": reverberant,
    "noisy": noisy,
}


def assign(count: int, rng: np.random.Generator) -> List[str]:
    """As many of each as can be, in random order."""
    names = list(CONDITIONS)
    return [names[index % len(names)] for index in rng.permutation(count)]


def make_split(source: str, out: str, data: str, split: str, seed: int) -> int:
    """Writes the audio of a split into `out` and its files into `data`; returns its size."""
    manifest = read_manifest(os.path.join(source, f"{split}.tsv"))
    root = os.path.join(os.path.abspath(out), split)
    os.makedirs(root, exist_ok=True)
    key = [seed, *split.encode()]
    conditions = assign(len(manifest.entries), np.random.default_rng(key))
    entries = []
    for row, condition in enumerate(tqdm(conditions, desc=split, leave=False)):
        wave = read_audio(os.path.join(manifest.root, manifest.entries[row][0]), RATE)
        wave = wave.astype(np.float64)
        changed = CONDITIONS[condition](wave, np.random.default_rng([*key, row]))
        # as loud as before, but never clipped
        changed *= np.sqrt(np.square(wave).mean() / max(np.square(changed).mean(), 1e-20))
        changed /= max(1.0, np.abs(changed).max() / 0.999)
        name = f"{row:06d}-{condition}.wav"
        soundfile.write(os.path.join(root, name), changed, RATE, subtype="PCM_16")
        entries.append((name, len(changed)))
    write_lines(os.path.join(data, f"{split}.condition"), conditions)
    for ending in ("ltr", "wrd", "spk"):
        path = os.path.join(source, f"{split}.{ending}")
        if os.path.isfile(path):
            shutil.copyfile(path, os.path.join(data, f"{split}.{ending}"))
    write_lines(os.path.join(data, f"{split}.tsv"), manifest_rows(root, entries))
    return len(entries)
