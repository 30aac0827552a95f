#!/usr/bin/env python3
"""Your own recordings and their transcripts as fairseq's manifests, audio copied to 16 kHz.

    python manifests/transcribed.py table.csv OUT        (or TSV, JSON lines, a JSON list)
    python manifests/transcribed.py data/train OUT       (a Kaldi folder: wav.scp, text, ..)

A table has a column or key for the audio file (relative to the table) and one for the text, and
may have speaker, split (train, valid, test), channel, start, and end or duration (seconds). Without
splits, speakers are divided, or, where they are not known, recordings.
"""

import os

from varan_fairseq.corpora.kaldi import from_kaldi
from varan_fairseq.corpora.labelled import check_names
from varan_fairseq.corpora.options import add_shared_speakers_option, parser, refuse, run
from varan_fairseq.corpora.spoken import add_split_options, divide, write_recordings
from varan_fairseq.corpora.tables import COLUMNS, SPLITS, from_table
from varan_fairseq.corpora.text import add_text_options


def pair(text: str):
    """An argument's type."""
    what, _, name = text.partition("=")
    if what not in COLUMNS or not name:
        raise ValueError
    return what, name


def main() -> None:
    options = parser(__doc__, labels=False)
    options.add_argument(
        "--columns",
        nargs="+",
        type=pair,
        default=[],
        metavar="WHAT=NAME",
        help=f"names of columns, for {', '.join(COLUMNS)}; numbers for a table without a header",
    )
    options.add_argument(
        "--ignore", nargs="+", default=[], metavar="NAME", help="columns that are not read"
    )
    add_text_options(options)
    add_split_options(options)
    add_shared_speakers_option(options)
    args = options.parse_args()
    if os.path.isdir(args.source):
        rows = list(from_kaldi(args.source))
    elif os.path.isfile(args.source):
        rows = list(from_table(args.source, dict(args.columns), args.ignore))
    else:
        refuse(f"no file or folder {args.source}")
    check_names([row for row, _ in rows])
    given = [split for _, split in rows if split]
    if given and len(given) < len(rows):
        refuse(f"{args.source}: {len(rows) - len(given)} rows have no split, the others have one")
    if given:
        splits = {split: [row for row, own in rows if own == split] for split in SPLITS}
    else:
        splits = divide(args, [row for row, _ in rows])
    write_recordings(args, splits, [args.source])


if __name__ == "__main__":
    run(main)
