"""Columns of tables: their names, and the options about them."""

import argparse
from typing import Tuple

# Names that columns may have; --columns gives others.
COLUMNS = {
    "audio": ("audio", "path", "file", "filename", "audio_filepath", "wav"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split", "subset"),
    "start": ("start", "offset", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration",),
    "channel": ("channel",),
}


def add_column_options(options: argparse.ArgumentParser) -> None:
    """How columns are called, and which are not read."""
    options.add_argument(
        "--columns",
        nargs="+",
        type=_pair,
        default=[],
        metavar="WHAT=NAME",
        help=f"names of columns, for {', '.join(COLUMNS)}; numbers for a table without a header",
    )
    options.add_argument(
        "--ignore", nargs="+", default=[], metavar="NAME", help="columns that are not read"
    )


def _pair(text: str) -> Tuple[str, str]:
    """An argument's type."""
    what, _, name = text.partition("=")
    if what not in COLUMNS or not name:
        raise ValueError
    return what, name
