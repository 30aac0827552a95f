#!/usr/bin/env python3
"""Your own recordings and the numbers that they are rated with, such as valence or a mean opinion
score, as fairseq's manifests, audio copied to 16 kHz.

    python manifests/rated.py table.csv OUT --values valence arousal dominance

A table (CSV, TSV, JSON lines, a JSON list) has a column for the audio file (relative to the table) and
one for each number, and may have speaker, split (train, valid, test), channel, start, and end or
duration (seconds). Without splits, speakers are divided, or, where they are not known, recordings.
"""

import os

from varan_fairseq.corpora.columns import add_column_options
from varan_fairseq.corpora.labelled import check_split_speakers, resample
from varan_fairseq.corpora.options import add_shared_speakers_option, parser, refuse, run
from varan_fairseq.corpora.rated import write_rated
from varan_fairseq.corpora.spoken import add_split_options, divide
from varan_fairseq.corpora.tables import by_split, from_table


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(labels="val")
    options.add_argument("--values", nargs="+", required=True, metavar="NAME", help="columns")
    add_column_options(options)
    add_split_options(options)
    add_shared_speakers_option(options)
    args = options.parse_args()
    if not os.path.isfile(args.source):
        refuse(f"no file {args.source}")
    if len(set(args.values)) < len(args.values) or any(
        name.split() != [name] for name in args.values
    ):
        refuse(f"--values {' '.join(args.values)}: expected different names without blanks")
    rows = list(from_table(args.source, dict(args.columns), args.ignore, args.values))
    splits = by_split(args.source, rows) or divide(args, [row for row, _ in rows])
    check_split_speakers(args, splits)
    write_rated(args, splits, resample(args, [row for row, _ in rows]), args.values)


if __name__ == "__main__":
    run(main)
