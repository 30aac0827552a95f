"""Running a command: what the user can mend is one line, and nothing is left behind."""

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Callable, Iterator, List, Optional

from . import require_fairseq
from .files import printable


def run(
    name: str, work: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]]
) -> int:
    """Runs a tool, which may return how much failed: then exit code 1. What the user can mend is
    one line on stderr and exit code 2; set VARAN_TRACEBACK=1 to see where it was raised. Ctrl-C,
    SIGTERM and a reader that has gone leave nothing half-written and give 130, 143 and 141, as
    shells do."""
    try:
        with _levels_kept(), warnings.catch_warnings(), _terminated_like_interrupted():
            warnings.simplefilter("ignore")  # other libraries': ours are logged
            quieten()
            failed = work(argv)
            sys.stdout.flush()
    except BrokenPipeError:  # as of | head: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("VARAN_TRACEBACK"):
            raise
        text = printable(str(_without_fairseq(error)))
        print(f"{name}: error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{name}: stopped", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 1 if failed else 0


def _without_fairseq(error: Exception) -> Exception:
    """What is missing in words, if it is fairseq."""
    if getattr(error, "name", None) == "fairseq":
        try:
            require_fairseq()
        except ModuleNotFoundError as clear:
            return clear
    return error


# "" is the root logger, which fairseq sets to INFO when it is imported: its own is named too.
_LEVELS = {"": logging.WARNING, "fairseq": logging.WARNING, "varan_fairseq": logging.INFO}


def quieten() -> None:
    """No lines of other libraries below a warning."""
    logging.basicConfig()  # before fairseq does, when it is imported, with all libraries' DEBUG lines
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _levels_kept() -> Iterator[None]:
    """Puts back, in the end, what `quieten` changes: a tool may be called from Python."""
    loggers = [logging.getLogger(name) for name in _LEVELS]
    before = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """While active, SIGTERM unwinds the stack as Ctrl-C does, so that files are cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, _):
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
