"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
import contextlib
import os
import shutil
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from ..method.combine import check_rule


def run(name: str, work: Callable[[Optional[List[str]]], None], argv: Optional[List[str]]) -> int:
    """Runs a tool. What the user can mend is one line on stderr and exit code 2; set
    VARAN_TRACEBACK=1 to see where it was raised."""
    try:
        work(argv)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("VARAN_TRACEBACK"):
            raise
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def written_whole(folder: str) -> Iterator[str]:
    """A new folder to write into, whose files move to `folder` in the end; if the body fails,
    none does."""
    partial = f"{folder.rstrip('/')}.{os.getpid()}.partial"
    os.makedirs(partial)
    try:
        yield partial
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(partial):
            os.replace(os.path.join(partial, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def add_reading_options(parser: argparse.ArgumentParser, rules: Sequence[str]) -> None:
    """Options that read the layers otherwise than the model was trained to. rules: of its
    kind of model."""
    parser.add_argument(
        "--combine", help=f"how the layers' predictions become one: {', '.join(rules)}"
    )
    parser.add_argument("--layer", type=int, help="read this layer alone, 1 (lowest) .. L")


def reading_overrides(args: argparse.Namespace, rules: Sequence[str]) -> Dict[str, Any]:
    """Those options as overrides of the model's configuration. Raises ValueError."""
    if args.combine is not None:
        check_rule(args.combine, rules)
    options = {"combine": args.combine, "decode_layer": args.layer}
    return {key: value for key, value in options.items() if value is not None}
