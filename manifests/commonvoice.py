#!/usr/bin/env python3
"""One language of Common Voice as fairseq's manifests, audio copied to 16 kHz.

    python manifests/commonvoice.py cv-corpus/LANGUAGE OUT [--text RULE ..]

The corpus's own splits train, dev (here valid) and test; their speakers are apart.
"""

import csv
import os

from varan_fairseq.corpora.labelled import Recording
from varan_fairseq.corpora.options import parser, refuse
from varan_fairseq.corpora.spoken import write_recordings
from varan_fairseq.corpora.text import add_text_options

SPLITS = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}


def read(source: str, table: str):
    """Recordings of a table."""
    path = os.path.join(source, table)
    if not os.path.isfile(path):
        refuse(f"no table {path}: is {source} the folder of one language?")
    with open(path, encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"client_id", "path", "sentence"} - set(rows.fieldnames or [])
        if missing:
            refuse(
                f"{path} has no column {min(missing)}, it has {', '.join(rows.fieldnames or [])}"
            )
        for row in rows:
            name, ending = os.path.splitext(row["path"])
            audio = os.path.join(source, "clips", name + (ending or ".mp3"))
            yield Recording(audio, name + ".wav", row["sentence"] or "", row["client_id"])


def main() -> None:
    options = parser(__doc__, labels=False)
    add_text_options(options)
    options.add_argument(
        "--allow-shared-speakers", action="store_true", help="allow a speaker in two splits"
    )
    args = options.parse_args()
    write_recordings(
        args, {split: list(read(args.source, table)) for split, table in SPLITS.items()}
    )


if __name__ == "__main__":
    main()
