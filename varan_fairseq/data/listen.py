"""Every sample of audio files: silence, clipping, NaN, and which files are the same."""

import hashlib
import os
from typing import Iterator, List, NamedTuple, Optional, Sequence

import soundfile

from ..runtime.processes import in_processes
from ..runtime.progress import progress
from .audio_check import AudioProblem, check_header, check_samples
from .manifest import Manifest

SILENT = 1e-3  # greatest sample of a file that is taken for silent: -60 dB
CLIPPED, CLIPPED_SHARE = 0.999, 1e-3  # from where a sample, and a file, are taken for clipped
_CHUNK = 100  # files that a process reads at a time


class Heard(NamedTuple):
    """Of a file. problem: why it cannot be used; then the others say nothing. peak: greatest
    absolute sample. clipped: share of the samples. digest: of the samples."""

    problem: Optional[AudioProblem]
    channels: int = 1
    peak: float = 0.0
    clipped: float = 0.0
    digest: bytes = b""


def listen(manifest: Manifest, sample_rate: int, jobs: int, what: str) -> List[Optional[Heard]]:
    """One an entry; None for entries inside of archives. what: for the progress."""
    rows = [row for row, (name, _) in enumerate(manifest.entries) if ":" not in name]
    chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]

    def hear(chunk: Sequence[int]) -> List[Heard]:
        return list(_hear(chunk, manifest, sample_rate))

    found: List[Optional[Heard]] = [None] * len(manifest.entries)
    done = in_processes(hear, chunks, jobs)
    sizes = progress(done, what, len(rows), lambda result: len(result[1]), "files")
    for index, heard in sizes:
        for row, each in zip(chunks[index], heard):
            found[row] = each
    return found


def _hear(rows: Sequence[int], manifest: Manifest, sample_rate: int) -> Iterator[Heard]:
    for row in rows:
        name, samples = manifest.entries[row]
        path = os.path.join(manifest.root, name)
        problem = check_header(row, path, samples, sample_rate)
        if isinstance(problem, AudioProblem):
            yield Heard(problem)
            continue
        try:
            with soundfile.SoundFile(path) as file:
                whole = "int16" if file.subtype == "PCM_16" else "float32"
                wave, channels = file.read(dtype=whole), file.channels
        except (RuntimeError, OSError) as error:
            yield Heard(AudioProblem(row, f"{path} cannot be read: {error}", True))
            continue
        scale = 2.0**15 if whole == "int16" else 1.0
        problem = None if whole == "int16" else check_samples(row, path, wave)
        if problem is not None:
            yield Heard(problem)
            continue
        least, most = float(wave.min()), float(wave.max())
        peak, limit = max(-least, most) / scale, CLIPPED * scale
        clipped = 0.0
        if peak >= CLIPPED:
            clipped = float(((wave >= limit) | (wave <= -limit)).mean())
        digest = hashlib.blake2b(wave.tobytes(), digest_size=16).digest()
        yield Heard(None, channels, peak, clipped, digest)
