"""Where the audio of a manifest's entry is: a file, or a part of a stored ZIP, as fairseq reads it."""

import io
import os
import re
from dataclasses import dataclass
from typing import Any, Optional

from fairseq.data.audio.audio_utils import FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS, is_sf_audio_data

_ARCHIVED = re.compile(r"(.+?):(\d+):(\d+)")


@dataclass(frozen=True)
class AudioSource:
    """file: to read. offset, length: bytes of it, if it is an archive."""

    file: str
    offset: int = 0
    length: Optional[int] = None

    def open(self) -> Any:
        """What soundfile reads. Raises OSError for a part of an archive that is not audio."""
        if self.length is None:
            return self.file
        part = _Part(self.file, self.offset, self.length)
        if self.length < 4 or not is_sf_audio_data(part.read(4)):
            part.close()
            raise OSError(
                f"bytes {self.offset} .. {self.offset + self.length} of {self.file} are not WAV, FLAC "
                "or Ogg: expected archive.zip:first byte:number of bytes, of a stored entry"
            )
        part.seek(0)
        return part


def audio_source(path: str) -> AudioSource:
    """By the rules of fairseq's `parse_path`: a name with the ending of an audio file is one, with
    whatever colons in it."""
    match = _ARCHIVED.fullmatch(path)
    if os.path.splitext(path)[1] in FEATURE_OR_SF_AUDIO_FILE_EXTENSIONS or not match:
        return AudioSource(path)
    return AudioSource(match[1], int(match[2]), int(match[3]))


class _Part(io.RawIOBase):
    """Bytes of a file, as a file."""

    def __init__(self, path: str, offset: int, length: int):
        self._file = open(path, "rb")  # noqa: SIM115  (closed by close)
        self._offset, self._length, self._at = offset, length, 0
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = min(max(start + offset, 0), self._length)
        self._file.seek(self._offset + self._at)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._length - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
