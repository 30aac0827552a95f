"""Any audio -> mono samples at a rate of choice, as a whole or block by block.

Audio is a path, `-` for the standard input, bytes of a file, a file that is open for reading bytes
(which stays open, and its owner's), an array or tensor of mono samples [samples], a pair (samples,
rate), or a dictionary as `datasets` have them: {"array", "sampling_rate"} or {"bytes", "path"}.
"""

import contextlib
import io
import numbers
import os
import sys
import tempfile
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple, Union

import numpy as np
import soundfile
import soxr

Audio = Union[str, os.PathLike, np.ndarray, Any]

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".au", ".sph", ".caf")
# of audio that libsndfile cannot read
UNREADABLE = (".m4a", ".aac", ".wma", ".amr", ".mp4", ".webm", ".mka", ".ra", ".ape", ".wv")
_BLOCK = 1 << 18  # samples that are read at once
STDIN = "-"
LEAST_RATE = 1000  # Hz: below, nothing can be speech, and resampling would take all memory


def read_audio(source: Audio, rate: int, source_rate: Optional[int] = None) -> np.ndarray:
    """All that `stream_audio` gives, at once."""
    blocks = list(stream_audio(source, rate, source_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def stream_audio(
    source: Audio, rate: int, source_rate: Optional[int] = None
) -> Iterator[np.ndarray]:
    """Blocks of float32 samples at `rate`, of any audio; channels of a file are averaged.
    source_rate: of an array that has none with it.

    What cannot be read, and samples that are NaN or infinite, raise ValueError naming the file.
    """
    name = describe(source)
    source, own_rate = _unpacked(source, name)
    if isinstance(source, (str, os.PathLike)) or hasattr(source, "read"):
        blocks = _file_blocks(source, rate, name)
    else:
        blocks = _array_blocks(source, rate, own_rate or source_rate or rate)
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError(f"{name}: NaN or infinite samples")
        if len(block):
            yield block


def describe(source: Audio) -> str:
    """A source's name in messages."""
    if isinstance(source, dict):
        return str(source.get("path") or "the audio")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes"
    if hasattr(source, "read"):
        return str(getattr(source, "name", "the open file"))
    if not isinstance(source, (str, os.PathLike)):
        return "the array"
    return "the standard input" if os.fspath(source) == STDIN else os.fspath(source)


def _unpacked(source: Any, name: str) -> Tuple[Any, Optional[int]]:
    """(path, open file or array, the rate that came with it)."""
    rate = None
    if isinstance(source, dict):
        if source.get("array") is not None:
            source, rate = source["array"], source.get("sampling_rate")
        elif source.get("bytes") is not None:
            source = source["bytes"]
        elif source.get("path"):
            source = source["path"]
        else:
            raise ValueError(
                f"{name}: a dictionary with {', '.join(map(str, source))}, expected array"
            )
    elif has_rate(source):
        source, rate = source
    if rate is not None and not float(rate) > 0:
        raise ValueError(f"{name}: a sample rate of {rate}")
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    return source, None if rate is None else int(rate)


def has_rate(source: Any) -> bool:
    """Whether it is a pair (samples, rate), not two sources."""
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], numbers.Real)


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
        # as bytes: soundfile encodes a name itself, and stops at one that is not UTF-8
        return soundfile.info(os.fsencode(path)).duration if os.path.isfile(path) else None
    except (RuntimeError, OSError):
        return None


def _array_blocks(array: Any, rate: int, source_rate: int) -> Iterator[np.ndarray]:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if array.is_floating_point():
            array = array.float()  # numpy has no bfloat16
        array = array.numpy()
    array = np.asarray(array)
    if array.ndim != 1:
        raise ValueError(f"the array: expected mono samples [samples], got shape {array.shape}")
    if array.dtype in (np.int16, np.int32):
        peak = np.abs(array.astype(np.int64)).max(initial=0)
        if array.dtype == np.int32 and 0 < peak <= 2**15:
            raise ValueError(
                f"the array: int32 samples of at most {peak}, as those of 16 bits are: give them as "
                "int16"
            )
        array = array.astype(np.float32) / (np.iinfo(array.dtype).max + 1.0)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"the array: expected float samples in [-1, 1], int16 or int32, got {array.dtype}"
        )
    yield from _resampled(iter([array.astype(np.float32, copy=False)]), source_rate, rate)


def _file_blocks(path: Any, rate: int, name: str) -> Iterator[np.ndarray]:
    with contextlib.ExitStack() as stack:
        try:
            if hasattr(path, "read"):
                path = _Borrowed(path)
            elif os.fspath(path) == STDIN:
                path = stack.enter_context(_spooled())
            elif not os.path.isfile(path):
                exists = os.path.exists(path)
                raise ValueError("it is not a regular file" if exists else "it does not exist")
            else:
                path = os.fsencode(path)
            file = stack.enter_context(soundfile.SoundFile(path))
            yield from _resampled(_mono(file), file.samplerate, rate)
        except (RuntimeError, OSError, ValueError) as error:
            raise ValueError(f"{name} cannot be read: {error}") from None


def _mono(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while True:
        block = file.read(_BLOCK // file.channels + 1, dtype="float32", always_2d=True)
        if not len(block):
            return
        yield block[:, 0] if block.shape[1] == 1 else block.mean(1)


class _Borrowed(io.RawIOBase):
    """Somebody's open file: soundfile closes what it is given."""

    def __init__(self, file: Any):
        if not (hasattr(file, "readinto") or isinstance(file.read(0), bytes)):
            raise ValueError("it is open for reading text, expected bytes ('rb')")
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _resampled(blocks: Iterator[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    if source_rate < LEAST_RATE:
        raise ValueError(f"a sample rate of {source_rate} Hz, expected {LEAST_RATE} Hz or more")
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
    if sys.stdin is None:  # closed
        raise ValueError("nothing is there: it is closed")
    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        while True:
            data = sys.stdin.buffer.read(_BLOCK)
            if not data:
                break
            file.write(data)
        file.flush()
        yield file.name
