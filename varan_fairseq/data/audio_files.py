"""Audio files against their manifest (there, readable, as long as it says), and all their samples
(silent, clipped, NaN, the same as another's)."""

import concurrent.futures
import hashlib
import json
import logging
import os
import random
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy
import soundfile

from ..runtime.files import read_json, write_lines
from ..runtime.processes import in_processes
from ..runtime.progress import progress
from .audio_source import audio_source
from .manifest import Manifest

logger = logging.getLogger(__name__)

WORKERS = 16  # reading headers waits for the disk, so threads help even on one core
MOST_FLOATS = 256  # files whose samples are read: their format can hold NaN
STAMP_VERSION = 2
FLOAT = "float"
_COMPRESSED = ("FLAC", "OGG", "MP3", "MPEG")
SILENT = 1e-3  # greatest sample of a file that is taken for silent: -60 dB
CLIPPED, CLIPPED_SHARE = 0.999, 1e-3  # from where a sample, and a file, are taken for clipped
_CHUNK = 100  # files that a process reads at a time


@dataclass(frozen=True)
class AudioProblem:
    """row: of the manifest's entries. text: what is wrong, with the file's name. unreadable:
    missing or no audio at all, rather than audio that is not as the manifest says."""

    row: int
    text: str
    unreadable: bool


def header_problems(
    path: str, manifest: Manifest, sample_rate: int, min_sample_size: Optional[int] = None
) -> List[AudioProblem]:
    """Reads the header of every audio file of a manifest (`path`, for the log), and the samples
    of some whose format can hold NaN. Entries below min_sample_size, which the task leaves out, are
    left out here, and logged.

    A manifest without problems is stamped: a file beside it says so, and as long as neither
    it nor sizes and times of the audio change, the audio is not read again.
    """
    start = time.time()
    least = min_sample_size or 0
    rows = list(range(len(manifest.entries)))
    short = [row for row in rows if manifest.entries[row][1] < least]
    if short:
        logger.warning(
            "%s: %d of %d files have less than task.min_sample_size=%d samples and are left out",
            path,
            len(short),
            len(manifest.entries),
            least,
        )
        rows = [row for row in rows if manifest.entries[row][1] >= least]

    names = {row: os.path.join(manifest.root, manifest.entries[row][0]) for row in rows}
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        stamp = _stamp(sample_rate, names, manifest, pool)
        if stamp == read_json(_stamp_path(path)):
            logger.info("%s: audio unchanged since it was checked (%s)", path, _stamp_path(path))
            return []

        def headers(row):
            return check_header(row, names[row], manifest.entries[row][1], sample_rate)

        results = dict(zip(rows, pool.map(headers, rows)))
        floats = [row for row, result in results.items() if result == FLOAT]
        sampled = sorted(random.Random(1).sample(floats, min(MOST_FLOATS, len(floats))))
        for row, result in zip(sampled, pool.map(lambda row: _samples(row, names[row]), sampled)):
            results[row] = result
    problems = [result for result in results.values() if isinstance(result, AudioProblem)]
    logger.info(
        "%s: checked %d audio files in %.1f s%s",
        path,
        len(rows),
        time.time() - start,
        f", the samples of {len(sampled)} of {len(floats)} float files" if floats else "",
    )
    if not problems:
        _write_stamp(path, stamp)
    return problems


def audio_state(manifest: Manifest, sample_rate: int) -> Dict:
    """What changes if a manifest or any of its audio files is replaced."""
    names = {
        row: os.path.join(manifest.root, name) for row, (name, _) in enumerate(manifest.entries)
    }
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        return _stamp(sample_rate, names, manifest, pool)


def check_header(row: int, path: str, samples: int, sample_rate: int) -> Any:
    """A problem of a file that should have so many samples, `FLOAT` if they may hold NaN, or
    None."""
    source = audio_source(path)
    file = source.file
    if not os.path.isfile(file):
        what = "is not a regular file" if os.path.exists(file) else None
        return AudioProblem(row, f"{file} {what}" if what else f"no audio file {file}", True)
    try:
        with soundfile.SoundFile(source.open()) as info:
            if info.format in _COMPRESSED and info.frames == samples > 0:
                info.seek(samples - 1)  # a file that was cut off has a header like any other
                if len(info.read(1)) < 1:
                    return AudioProblem(row, f"{path} cannot be read: it is cut off", True)
    except (RuntimeError, OSError) as error:
        return AudioProblem(row, f"{path} cannot be read: {error}", True)
    text = ""
    if info.samplerate != sample_rate:
        text = f"has a sample rate of {info.samplerate} Hz, expected {sample_rate} Hz: resample it"
    elif info.frames != samples:
        text = f"has {info.frames} samples, the manifest says {samples}"
    elif not samples:
        text = "has no samples"
    elif info.subtype in ("FLOAT", "DOUBLE"):
        return FLOAT
    return AudioProblem(row, f"{path} {text}", False) if text else None


def check_samples(row: int, path: str, wave: Any) -> Optional[AudioProblem]:
    """A problem, if float samples are not all numbers."""
    bad = int((~numpy.isfinite(wave)).sum())
    if not bad:
        return None
    return AudioProblem(row, f"{path} has {bad} samples that are NaN or infinite", False)


def _samples(row: int, path: str) -> Optional[AudioProblem]:
    try:
        wave, _ = soundfile.read(audio_source(path).open(), dtype="float32")
    except (RuntimeError, OSError) as error:
        return AudioProblem(row, f"{path} cannot be read: {error}", True)
    return check_samples(row, path, wave)


def _stamp(sample_rate: int, names: Dict[int, str], manifest: Manifest, pool: Any) -> Dict:
    """What a check depends on: the manifest, and size and time of every file."""
    digest = hashlib.sha256(repr(manifest).encode("utf-8", "surrogatepass"))
    files = [audio_source(name).file for name in names.values()]
    once = list(dict.fromkeys(files))  # an archive holds many
    states = dict(zip(once, pool.map(_state, once)))
    for file in files:
        digest.update(states[file])
    return {
        "version": STAMP_VERSION,
        "sample_rate": sample_rate,
        "files": len(names),
        "sha256": digest.hexdigest(),
    }


def _state(path: str) -> bytes:
    try:
        state = os.stat(path)
    except OSError:
        return b"none"
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n".encode()


def _stamp_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.checked")


def _write_stamp(path: str, stamp: Dict) -> None:
    try:
        write_lines(_stamp_path(path), [json.dumps(stamp)])
    except OSError as error:  # read-only data: checked again next time
        logger.debug("no stamp beside %s: %s", path, error)


@dataclass(frozen=True)
class Heard:
    """Of a file. problem: why it cannot be used; then the others say nothing. peak: greatest
    absolute sample. clipped: share of the samples. digest: of the samples."""

    problem: Optional[AudioProblem]
    channels: int = 1
    peak: float = 0.0
    clipped: float = 0.0
    digest: bytes = b""


def listen(manifest: Manifest, sample_rate: int, jobs: int, what: str) -> List[Heard]:
    """One an entry. what: for the progress."""
    rows = range(len(manifest.entries))
    chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]

    def hear(chunk: Sequence[int]) -> List[Heard]:
        return list(_hear(chunk, manifest, sample_rate))

    clips: List[Any] = [None] * len(manifest.entries)
    done = in_processes(hear, chunks, jobs)
    sizes = progress(done, what, len(rows), lambda result: len(result[1]), "files")
    for index, heard in sizes:
        for row, clip in zip(chunks[index], heard):
            clips[row] = clip
    return clips


def _hear(rows: Sequence[int], manifest: Manifest, sample_rate: int) -> Iterator[Heard]:
    for row in rows:
        name, samples = manifest.entries[row]
        path = os.path.join(manifest.root, name)
        problem = check_header(row, path, samples, sample_rate)
        if isinstance(problem, AudioProblem):
            yield Heard(problem)
            continue
        try:
            with soundfile.SoundFile(audio_source(path).open()) as file:
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
