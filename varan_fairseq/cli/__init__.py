"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
import logging
import os
import sys
from typing import Any, Dict, Iterable, List, Sequence, Union

from .. import __version__
from ..runtime.command import run
from ..runtime.files import printable

__all__ = [
    "Parser",
    "add_reading_options",
    "add_split_options",
    "print_each",
    "run",
    "split_or_files",
]


class _Help(argparse.RawDescriptionHelpFormatter):
    """Names the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.option_strings and not (
            action.default in (None, argparse.SUPPRESS) or action.default is False
        )
        return f"{text} (default: %(default)s)" if shown and "default" not in text else text


class _Quiet(argparse.Action):
    def __init__(self, *args: Any, **options: Any):
        options.update(nargs=0, default=argparse.SUPPRESS)
        super().__init__(*args, **options)

    def __call__(self, *unused: Any) -> None:
        logging.getLogger("varan_fairseq").setLevel(logging.WARNING)


class Parser(argparse.ArgumentParser):
    """Of a tool: with --version, -q, and defaults and an example in its help."""

    def __init__(self, *, example: str = "", **options: Any):
        epilog = f"example: {example}" if example else None
        super().__init__(formatter_class=_Help, epilog=epilog, **options)
        version = f"%(prog)s {__version__}"
        self.add_argument("--version", action="version", version=version, help="print it and exit")
        self.add_argument("-q", "--quiet", action=_Quiet, help="print results and warnings alone")


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


def split_or_files(audio: List[str], options: Dict[str, Any]) -> bool:
    """Whether a tool's arguments are a folder and a manifest's name; else they are audio files, and
    options for a split go. Raises ValueError."""
    if os.path.isdir(audio[0]):
        if len(audio) != 2:
            raise ValueError(
                f"{audio[0]} is a folder: give a manifest's name after it, as test, and no more"
            )
        return True
    if options.pop("out"):
        raise ValueError("--out is for a split: the results of audio files go to standard output")
    del options["max_tokens"]
    return False


def print_each(program: str, lines: Iterable[Union[str, ValueError]]) -> int:
    """Prints lines as they come, errors on the standard error; returns how many of those."""
    failed = 0
    for line in lines:
        if isinstance(line, ValueError):
            failed += 1
            print(f"{program}: {printable(str(line))}", file=sys.stderr, flush=True)
        else:
            print(printable(line), flush=True)
    return failed
