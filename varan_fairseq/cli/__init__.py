"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
from typing import Sequence

from ..runtime.command import run

__all__ = ["add_reading_options", "add_split_options", "run"]


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
