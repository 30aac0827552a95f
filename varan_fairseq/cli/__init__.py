"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import threading
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from ..method.combine import check_rule
from ..runtime.files import printable


def run(
    name: str, work: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]]
) -> int:
    """Runs a tool, which may return how much failed: then exit code 1. What the user can mend is
    one line on stderr and exit code 2; set VARAN_TRACEBACK=1 to see where it was raised. Ctrl-C
    and SIGTERM leave nothing half-written and give 130 and 143, as shells do."""
    try:
        with _levels_kept(), warnings.catch_warnings(), _terminated_like_interrupted():
            warnings.simplefilter("ignore")  # other libraries': ours are logged
            quieten()
            failed = work(argv)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("VARAN_TRACEBACK"):
            raise
        print(f"{name}: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{name}: stopped", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    return 1 if failed else 0


def quieten() -> None:
    """No lines of other libraries below a warning; fairseq sets the root logger to INFO when
    it is imported."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("varan_fairseq").setLevel(logging.INFO)


@contextlib.contextmanager
def _levels_kept() -> Iterator[None]:
    """Puts back, in the end, what `quieten` changes: a tool may be called from Python."""
    loggers = [logging.getLogger(), logging.getLogger("varan_fairseq")]
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


def beside(path: str) -> str:
    """Where results of a checkpoint go by default: its folder, or the adapter's own."""
    return path.rstrip("/") if os.path.isdir(path) else os.path.dirname(path) or "."


def results_name(*parts: Any) -> str:
    """A folder's name for results from the settings that they depend on; None says nothing."""
    return "-".join(re.sub(r"[^\w.+-]+", "_", str(part)) for part in parts if part is not None)


def setting_name(path: str, args: argparse.Namespace) -> List[Optional[str]]:
    """Parts of such a name: the checkpoint, unless it is the best one, and how it is read."""
    stem = None
    if not os.path.isdir(path):
        stem = os.path.splitext(os.path.basename(path))[0]
        stem = None if stem == "checkpoint_best" else stem
    return [stem, args.combine, None if args.layer is None else f"layer{args.layer}"]


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Options of tools that run over a split."""
    parser.add_argument("--base", help="the pre-trained checkpoint that an adapter is for")
    parser.add_argument("--max-tokens", type=int, default=4000000, help="samples a batch")


def add_reading_options(parser: argparse.ArgumentParser, rules: Sequence[str]) -> None:
    """Options that read the layers otherwise than the model was trained to. rules: of its
    kind of model."""
    parser.add_argument(
        "--combine", help=f"how the layers' predictions become one: {', '.join(rules)}"
    )
    parser.add_argument("--layer", type=int, help="read this layer alone, 1 (lowest) .. L")


def reading_overrides(args: argparse.Namespace, rules: Sequence[str]) -> Dict[str, Any]:
    """Those options as overrides of the model's configuration. Raises ValueError."""
    if args.combine is not None and args.layer is not None:
        raise ValueError(
            f"--combine {args.combine} and --layer {args.layer}: one layer has nothing to combine, "
            "give one of the two"
        )
    if args.combine is not None:
        check_rule(args.combine, rules)
        return {"combine": args.combine, "decode_layer": 0}
    if args.layer is not None:
        if args.layer < 1:
            raise ValueError(f"--layer {args.layer}: layers are 1 (lowest) .. L")
        return {"decode_layer": args.layer}
    return {}
