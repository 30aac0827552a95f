"""Options that the scripts of manifests/ share."""

import argparse
import logging
import os
import sys
from typing import Callable, NoReturn

from ..runtime import command

logging.basicConfig(level=logging.INFO, format="%(message)s")  # of progress, as fairseq does


def refuse(text: str) -> NoReturn:
    """Ends the script with one line."""
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


def run(main: Callable[[], None]) -> None:
    """A script, as the tools are run."""
    code = command.run(os.path.basename(sys.argv[0]), lambda argv: main(), None)
    if code:
        sys.exit(code)


def parser(description: str, labels: bool = True) -> argparse.ArgumentParser:
    """Source, destination and the options that every corpus has. labels: of classes."""
    options = argparse.ArgumentParser(description=description.split("\n\n")[0])
    options.add_argument("source", help="the corpus")
    options.add_argument("out", help="folder for the manifests and the audio at 16 kHz")
    if labels:
        add_labels_option(options)
    options.add_argument("--jobs", type=at_least_1, default=os.cpu_count(), help="threads")
    options.add_argument(
        "--max-unreadable",
        type=fraction,
        default=0.01,
        help="share of the files that may be unreadable; those are named and left out",
    )
    options.add_argument(
        "--allow-incomplete", action="store_true", help="continue with a part of the corpus"
    )
    return options


def add_labels_option(options: argparse.ArgumentParser) -> None:
    """The ending of the label files, which may be none that other files have."""
    options.add_argument(
        "--labels", type=label_ending, default="emo", help="ending of the label files"
    )


def at_least_1(text: str) -> int:
    """An argument's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 or more")
    return int(text)


def fraction(text: str) -> float:
    """An argument's type."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a share, 0 .. 1")
    return value


def label_ending(text: str) -> str:
    """An argument's type."""
    if not text.isidentifier() or text in ("tsv", "spk"):
        raise argparse.ArgumentTypeError(f"{text!r}, expected letters, and not tsv or spk")
    return text


def add_speaker_options(options: argparse.ArgumentParser, valid: str, test: str) -> None:
    """Which speakers are validation and test; all others train. valid, test: defaults."""
    options.add_argument("--valid", nargs="+", default=valid.split(), help="validation speakers")
    options.add_argument("--test", nargs="+", default=test.split(), help="test speakers")
    add_shared_speakers_option(options)


def add_shared_speakers_option(options: argparse.ArgumentParser) -> None:
    """For corpora that are read on although a speaker is in two splits."""
    options.add_argument(
        "--allow-shared-speakers", action="store_true", help="allow a speaker in two splits"
    )
