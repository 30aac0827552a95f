#!/usr/bin/env python3
"""Your own recordings and their transcripts as fairseq's manifests, audio copied to 16 kHz.

    python manifests/transcribed.py table.csv OUT        (or TSV, JSON lines, a JSON list)
    python manifests/transcribed.py data/train OUT       (a Kaldi folder: wav.scp, text, ..)

A table has a column or key for the audio file (relative to the table) and one for the text, and
may have speaker, split (train, valid, test), channel, start, and end or duration (seconds). Without
splits, speakers are divided, or, where they are not known, recordings.
"""

import os

from varan_fairseq.corpora.columns import add_column_options
from varan_fairseq.corpora.kaldi import from_kaldi
from varan_fairseq.corpora.labelled import check_names
from varan_fairseq.corpora.options import add_shared_speakers_option, parser, refuse, run
from varan_fairseq.corpora.spoken import add_split_options, divide, write_recordings
from varan_fairseq.corpora.tables import by_split, from_table
from varan_fairseq.corpora.text import add_text_options


def main() -> None:
    options = parser(__doc__, labels=False)
    add_column_options(options)
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
    splits = by_split(args.source, rows) or divide(args, [row for row, _ in rows])
    write_recordings(args, splits, [args.source])


if __name__ == "__main__":
    run(main)
