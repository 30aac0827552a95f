"""Writing files: whole or not at all, one writer at a time, nothing left behind.

What is being written lies under `<target>.<random>.tmp`, for several files in a folder of such a
name inside of theirs (which may be a mount point), and is renamed in the end. The
writer holds a lock on it, so what a killed process left is told from what another is at, and
removed when something is next written into the same folder.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
import unicodedata
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Set

_TEMPORARY = re.compile(r".+\.[0-9a-f]{16}\.(tmp|partial)")
MARK = ".varan_fairseq"  # in a folder of results of ours
_STALE = 60  # seconds: a writer takes its lock at once, but not in the same instant
_CLEANED: Set[str] = set()


@contextlib.contextmanager
def written(path: str, durable: bool = True) -> Iterator[str]:
    """A name to write to, which becomes `path` in the end; if the body fails, nothing does.
    durable: wait until it is on the disk. Raises as `refuse_no_folder`."""
    refuse_no_folder(path)
    _remove_stale(os.path.dirname(path))
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    try:  # around opening, too: Ctrl-C may come right behind it
        with open(temporary, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield temporary
            if durable:
                _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def written_whole(folder: str, names: Sequence[str]) -> Iterator[str]:
    """A new folder inside of `folder` to write into, whose files move out of it in the end; if the
    body fails, none does.

    names: of files that a reader may look for first, the most telling last. They go from
    `folder` before anything comes, the last one first, and come after everything else, the
    last one last: where it is, all is of one run. Other files in `folder` stay. Raises
    ValueError if `folder` is a file.
    """
    refuse_file(folder)
    new = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    _remove_stale(folder)
    partial = os.path.join(folder, f"new.{secrets.token_hex(8)}.partial")
    os.makedirs(partial)
    try:
        with locked(partial):
            yield partial
            made = os.listdir(partial)
            for name in made:
                _to_disk(os.path.join(partial, name))
            with locked(folder):
                for name in reversed(names):
                    _remove(os.path.join(folder, name))
                for name in [n for n in made if n not in names] + list(names):
                    if name in made:
                        os.replace(os.path.join(partial, name), os.path.join(folder, name))
        _to_disk(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # something is in it
                os.rmdir(folder)


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A folder to write into, which becomes `path` in the end; if the body fails, nothing does. Raises
    ValueError if something is there already, FileNotFoundError if its parent is not."""
    path = path.rstrip(os.sep) or path
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent):
        raise FileNotFoundError(f"no folder {parent} to write {path} to: make it first")
    if os.path.exists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise ValueError(f"{path} is there already: give the name of a new folder")
    _remove_stale(parent)
    partial = f"{path}.{secrets.token_hex(8)}.partial"
    os.mkdir(partial)
    try:
        with locked(partial):
            yield partial
            for name in os.listdir(partial):
                _to_disk(os.path.join(partial, name))
        os.replace(partial, path)
        _to_disk(parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """While active, no other process is inside `locked` of this folder: it waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with written(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")


def read_json(path: str) -> Any:
    """What a JSON file holds; None if there is none, or it is not JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def file_state(path: Optional[str]) -> Optional[List[Any]]:
    """What changes if a file is replaced; None if there is none."""
    if path is None or not os.path.exists(path):
        return None
    state = os.stat(path)
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**22), b""):
            digest.update(block)
    return digest.hexdigest()


def refuse_same(out: str, *inputs: Optional[str]) -> None:
    """Raises ValueError if `out` is one of the inputs, under whatever name."""
    for path in filter(None, inputs):
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise ValueError(f"{out} would overwrite its own input {path}: give another name")


def refuse_output(out: str, ours: bytes, *inputs: Optional[str]) -> None:
    """Before the work whose result a file is for: raises ValueError if it is one of the inputs, or
    holds something that we did not write, and as `refuse_no_folder`. ours: bytes that are among the
    first 4096 of every file that we write there."""
    refuse_no_folder(out)
    refuse_same(out, *inputs)
    if os.path.exists(out):
        with open(out, "rb") as file:
            head = file.read(4096)
        if head and ours not in head:
            raise ValueError(
                f"{out} is there already and holds something else: remove it, or give another name"
            )


def refuse_file(folder: str) -> None:
    """Raises ValueError if there is a file where results want a folder."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder} is a file, expected a folder for the results")


def refuse_foreign(folder: str, names: Sequence[str]) -> None:
    """Raises ValueError if a folder for results has files of their names that we did not write: no
    `MARK` beside them, and no summary of ours (the last name), as results of before have."""
    there = [name for name in names if os.path.exists(os.path.join(folder, name))]
    if not there or os.path.exists(os.path.join(folder, MARK)):
        return
    about = read_json(os.path.join(folder, names[-1]))
    if not (isinstance(about, dict) and "checkpoint" in about):
        raise ValueError(
            f"{os.path.join(folder, there[0])} is there already and holds something else: give "
            "another folder"
        )


def refuse_no_folder(path: str) -> None:
    """Raises FileNotFoundError if there is no folder for the file `path`, ValueError if that
    is a folder itself: before the work whose result it is for."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder} to write {path} to: make it first")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, expected the name of a file to write")


def printable(text: str) -> str:
    """Text that cannot steer a terminal, and can be printed: control characters but tabs and
    line ends are escaped, as are the bytes of file names that are not UTF-8."""

    def harmless(char: str) -> bool:
        return char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")

    return "".join(
        char if harmless(char) else char.encode("unicode_escape").decode() for char in text
    )


def cell(text: str) -> str:
    """Text as a cell of a TSV file: a path or a transcript that a spreadsheet would take for a
    formula gets a blank before it. Raises ValueError for separators."""
    if any(char in text for char in "\t\n\r"):
        raise ValueError(f"{text!r} holds a tab or a line end, which separate cells and rows")
    return f" {text}" if text.startswith(("=", "+", "-", "@")) else text


def _to_disk(path: str) -> None:
    """A file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems cannot, for a folder
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _remove_stale(folder: str) -> None:
    """What writers into this folder left that were killed; looked for once a process."""
    folder = os.path.abspath(folder or ".")
    if folder in _CLEANED or not os.path.isdir(folder):
        return
    _CLEANED.add(folder)
    for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # gone, or locked by its writer
            if time.time() - os.stat(path).st_mtime < _STALE:
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.isdir(path):
                    shutil.rmtree(path)
                else:
                    os.remove(path)
            finally:
                os.close(descriptor)
