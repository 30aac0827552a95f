"""Any audio -> mono samples at a rate of choice, as a whole or block by block."""

import contextlib
import os
import sys
import tempfile
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Union

import numpy as np
import soundfile
import soxr

Audio = Union[str, os.PathLike, np.ndarray, Any]  # or a torch tensor

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".au", ".sph", ".caf")
# of audio that libsndfile cannot read
UNREADABLE = (".m4a", ".aac", ".wma", ".amr", ".mp4", ".webm", ".mka", ".ra", ".ape", ".wv")
_BLOCK = 1 << 18  # samples that are read at once
STDIN = "-"


def read_audio(source: Audio, rate: int, source_rate: Optional[int] = None) -> np.ndarray:
    """All that `stream_audio` gives, at once."""
    blocks = list(stream_audio(source, rate, source_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def stream_audio(
    source: Audio, rate: int, source_rate: Optional[int] = None
) -> Iterator[np.ndarray]:
    """Blocks of float32 samples at `rate`, of a file (`-` is the standard input), or of an
    array of `source_rate`; channels of a file are averaged.

    What cannot be read, and samples that are NaN or infinite, raise ValueError naming the file.
    """
    if isinstance(source, (str, os.PathLike)):
        blocks = _file_blocks(os.fspath(source), rate)
    else:
        blocks = _array_blocks(source, rate, source_rate or rate)
    name = describe(source)
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError(f"{name}: NaN or infinite samples")
        if len(block):
            yield block


def describe(source: Audio) -> str:
    """A source's name in messages."""
    if not isinstance(source, (str, os.PathLike)):
        return "the array"
    return "the standard input" if os.fspath(source) == STDIN else os.fspath(source)


def files_below(folder: str) -> Iterator[str]:
    """Paths of files relative to a folder, sorted, through links too but never in circles.
    Raises OSError for a folder that cannot be read."""
    above: Dict[str, FrozenSet[str]] = {}  # of each folder, what it lies in

    def fail(error):
        raise error

    for at, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real, parents = os.path.realpath(at), above.get(os.path.dirname(at), frozenset())
        if real in parents:
            folders.clear()
            continue
        above[at] = parents | {real}
        folders.sort()
        for file in sorted(files):
            yield os.path.relpath(os.path.join(at, file), folder)


def audio_below(folder: str) -> List[str]:
    """Paths of the audio files in a folder, by their endings. Raises ValueError if there are
    none."""
    names = [name for name in files_below(folder) if not os.path.basename(name).startswith(".")]
    audio = [os.path.join(folder, name) for name in names if name.lower().endswith(ENDINGS)]
    if audio:
        return audio
    other = [name for name in names if name.lower().endswith(UNREADABLE)]
    why = f"; {other[0]} and others like it cannot be read: convert them" if other else ""
    raise ValueError(f"folder {folder} has no audio ({' '.join(ENDINGS)}){why}")


def duration(path: str) -> Optional[float]:
    """Seconds by a file's header; None if it has none that can be read."""
    try:
        return soundfile.info(path).duration if os.path.isfile(path) else None
    except (RuntimeError, OSError):
        return None


def _array_blocks(array: Any, rate: int, source_rate: int) -> Iterator[np.ndarray]:
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    array = np.asarray(array)
    if array.ndim != 1:
        raise ValueError(f"the array: wanted mono samples [samples], got shape {array.shape}")
    if array.dtype in (np.int16, np.int32):
        array = array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"the array: wanted float samples in [-1, 1], int16 or int32, got {array.dtype}"
        )
    yield from _resampled(iter([array.astype(np.float32, copy=False)]), source_rate, rate)


def _file_blocks(path: str, rate: int) -> Iterator[np.ndarray]:
    with contextlib.ExitStack() as stack:
        name = describe(path)
        if path == STDIN:
            path = stack.enter_context(_spooled())
        elif not os.path.isfile(path):
            what = "it is no regular file" if os.path.exists(path) else "it does not exist"
            raise ValueError(f"{name} cannot be read: {what}")
        try:
            file = stack.enter_context(soundfile.SoundFile(path))
            yield from _resampled(_mono(file), file.samplerate, rate)
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{name} cannot be read: {error}") from None


def _mono(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while True:
        block = file.read(_BLOCK // file.channels + 1, dtype="float32", always_2d=True)
        if not len(block):
            return
        yield block[:, 0] if block.shape[1] == 1 else block.mean(1)


def _resampled(blocks: Iterator[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    if source_rate == rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source_rate, rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


@contextlib.contextmanager
def _spooled() -> Iterator[str]:
    """The standard input as a file: formats are read by going back and forth."""
    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        while True:
            data = sys.stdin.buffer.read(_BLOCK)
            if not data:
                break
            file.write(data)
        file.flush()
        yield file.name
