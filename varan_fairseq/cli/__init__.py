"""Command-line tools: each module has a main(), also installed as a console script."""

import argparse
import logging
import os
import sys
from typing import Any, Callable, Dict, List, Sequence

from .. import __version__
from ..runtime.command import run
from ..runtime.files import printable

__all__ = [
    "Parser",
    "add_reading_options",
    "add_split_options",
    "run",
    "run_on_utterances",
    "score_lines",
    "utterance_parser",
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


def utterance_parser(
    program: str, about: str, model: str, rules: Sequence[str], example: str
) -> argparse.ArgumentParser:
    """Of a tool for models of one target per utterance. about: the tool's docstring. model: its name in fairseq. rules: that combine its layers."""
    options = Parser(
        prog=program,
        usage=f"{program} CHECKPOINT DATA SUBSET [options]\n"
        f"   or: {program} CHECKPOINT AUDIO [AUDIO ..] [options]",
        description=about.split("\n\n")[0],
        example=f"{program} checkpoint_best.pt {example}",
    )
    options.add_argument("checkpoint", help=f"of {model} (a pickle), or an adapter")
    options.add_argument(
        "audio", nargs="+", help="folder with the manifests and a manifest's name, or audio files"
    )
    options.add_argument("--out", help="folder for the results; default: beside the checkpoint")
    add_reading_options(options, rules)
    add_split_options(options)
    return options


def run_on_utterances(
    kind: Any, options: Dict[str, Any], metrics: Callable[[Dict[str, Any]], List[str]]
) -> int:
    """Runs a tool; returns the number of files that failed. kind: a `report.utterances.Kind`. options: of
    `utterance_parser`. metrics: scores.json -> lines to print."""
    from ..report.utterances import read_files, score_split

    checkpoint, audio = options.pop("checkpoint"), options.pop("audio")
    if os.path.isdir(audio[0]):
        if len(audio) != 2:
            raise ValueError(
                f"{audio[0]} is a folder: give a manifest's name after it, as test, and no more"
            )
        print("\n".join(score_lines(score_split(kind, checkpoint, *audio, **options), metrics)))
        return 0
    if options.pop("out"):
        raise ValueError("--out is for a split: the results of audio files go to standard output")
    del options["max_tokens"]
    failed = 0
    for line in read_files(kind, checkpoint, audio, **options):
        if isinstance(line, ValueError):
            failed += 1
            print(f"varan-{kind.word}: {printable(str(line))}", file=sys.stderr, flush=True)
        else:
            print(printable(line), flush=True)
    return failed


def score_lines(made: Any, metrics: Callable[[Dict[str, Any]], List[str]]) -> List[str]:
    """What to print of `report.utterances.Scores`."""
    scores, text = made.values, []
    if made.cropped:
        text.append(
            f"{made.cropped} of {scores['utterances']} utterances are cropped to their middle "
            f"{made.longest} samples (task.max_sample_size of the training)"
        )
    if os.path.isfile(made.labels):
        text += metrics(scores)
    else:
        text.append(f"there is no {made.labels}: predictions alone")
    return [*text, f"{scores['utterances']} utterances -> {made.folder}"]
