"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
import logging
from typing import Any, Sequence

from .. import __version__
from ..runtime.command import run

__all__ = ["Parser", "add_reading_options", "add_split_options", "run"]


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
