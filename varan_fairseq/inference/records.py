"""What lies in a folder of transcripts: of which recording each was made, how, and by which model.

`.varan-transcribe.jsonl` has a line a result, written before the result is: a file that no line
describes is somebody else's, and stays.
"""

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..runtime.files import file_state, locked, write_lines

NAME = ".varan-transcribe.jsonl"
_BEFORE = ".varan-transcribe.json"  # one line of settings for all of a folder, as once was


@dataclass(frozen=True)
class Record:
    """target: relative to the folder. source: path, size and times of the recording; None of the
    standard input. settings, result: SHA-256."""

    target: str
    source: Optional[List[Any]]
    settings: str
    result: str


class Records:
    """Of a folder. settings: that results depend on, beside the recording: JSON values."""

    def __init__(self, folder: str, settings: Dict[str, Any]):
        self.folder, self.path = folder, os.path.join(folder, NAME)
        self.settings = _sha256(json.dumps(settings, sort_keys=True).encode())
        self._known: Dict[str, List[Record]] = defaultdict(list)
        for record in self._read():
            self._known[record.target].append(record)

    def _read(self) -> List[Record]:
        if not os.path.isfile(self.path):
            return []
        records = []
        with open(self.path, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                try:
                    records.append(Record(**json.loads(line)))
                except (ValueError, TypeError, RecursionError):  # the last, of a killed process
                    continue
        return records

    def left(
        self, jobs: Sequence[Tuple[str, str]], overwrite: bool = False
    ) -> List[Tuple[str, str]]:
        """Those of (recording, target) that have no result of theirs yet.

        Raises ValueError for a file that is not a result of ours, and, unless they are to be
        overwritten, for results of other settings or of another recording.
        """
        left, other = [], []
        for source, target in jobs:
            name = os.path.relpath(target, self.folder)
            if not os.path.lexists(target):
                left.append((source, target))
                continue
            record = self._of_file(name, target)
            if record is None:
                other.append(target)
            elif (record.settings, record.source) == (self.settings, file_state(source)):
                if overwrite:
                    left.append((source, target))
                continue
            elif record.settings != self.settings or self._elsewhere(record, source):
                other.append(target)
            left.append((source, target))
        if other and not overwrite:
            raise ValueError(
                f"{other[0]} is there already, made with other settings or of another recording "
                f"({len(other)} such files): give another --out, or --overwrite"
            )
        return left

    def _of_file(self, name: str, target: str) -> Optional[Record]:
        """The record of what a file holds; None of the time before there were any."""
        digest = None
        if os.path.isfile(target):
            with open(target, "rb") as file:
                digest = _sha256(file.read())
        records = [record for record in self._known[name] if record.result == digest]
        if records:
            return records[-1]
        if os.path.isfile(os.path.join(self.folder, _BEFORE)) and not self._known[name]:
            return None
        raise ValueError(
            f"{target} was not written by varan-transcribe, or was changed since: move it, or give "
            "another --out"
        )

    @staticmethod
    def _elsewhere(record: Record, source: str) -> bool:
        return record.source is None or record.source[0] != os.path.abspath(source)

    def write(self, target: str, lines: Sequence[str], source: Optional[List[Any]]) -> None:
        """A result, with its record. source: of `file_state`, before the recording was read: if it
        changes meanwhile, the result is not of it."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        content = "".join(line + "\n" for line in lines).encode()
        name = os.path.relpath(target, self.folder)
        record = Record(name, source, self.settings, _sha256(content))
        line = json.dumps(asdict(record)) + "\n"
        with locked(self.folder), open(self.path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # cut off, of a killed process
                    line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._known[name].append(record)
        write_lines(target, lines)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
