#!/usr/bin/env python3
"""One language of Common Voice as fairseq's manifests, audio copied to 16 kHz.

    python manifests/commonvoice.py cv-corpus/LANGUAGE OUT [--text RULE ..]

The corpus's own splits train, dev (here valid) and test; their speakers are apart. A small language
has nothing but validated.tsv: --validated divides its speakers.
"""

import csv
import os

from varan_fairseq.corpora.labelled import Recording
from varan_fairseq.corpora.options import add_shared_speakers_option, parser, refuse, run
from varan_fairseq.corpora.spoken import add_split_options, divide, write_recordings
from varan_fairseq.corpora.text import add_text_options
from varan_fairseq.data.manifest import read_lines

VALIDATED = "validated.tsv"
SPLITS = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}


def read(source: str, table: str, clips: str):
    """Recordings of a table."""
    path = os.path.join(source, table)
    if not os.path.isfile(path):
        hint = f"is {source} the folder of one language?"
        if table != VALIDATED and os.path.isfile(os.path.join(source, VALIDATED)):
            hint = f"pass --validated to divide the speakers of {VALIDATED}"
        refuse(f"no table {path}: {hint}")
    rows = csv.DictReader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = {"client_id", "path", "sentence"} - set(rows.fieldnames or [])
    if missing:
        refuse(f"{path} has no column {min(missing)}, it has {', '.join(rows.fieldnames or [])}")
    for row in rows:
        if None in row or None in row.values():
            refuse(f"{path}, line {rows.line_num}: expected {len(rows.fieldnames)} fields")
        name, ending = os.path.splitext(row["path"])
        audio = os.path.join(clips, name + (ending or ".mp3"))
        yield Recording(audio, name + ".wav", row["sentence"], row["client_id"])


def main() -> None:
    options = parser(__doc__, labels=False)
    add_text_options(options)
    add_split_options(options)
    options.add_argument(
        "--validated", action="store_true", help=f"divide {VALIDATED}; --valid and --test say how"
    )
    options.add_argument("--clips", help="folder of the audio; default: clips in the source")
    add_shared_speakers_option(options)
    args = options.parse_args()
    clips = args.clips or os.path.join(args.source, "clips")
    if args.validated:
        splits = divide(args, list(read(args.source, VALIDATED, clips)))
    else:
        splits = {split: list(read(args.source, table, clips)) for split, table in SPLITS.items()}
    if not os.path.isdir(clips):
        refuse(f"no folder {clips} with the audio: give it by --clips")
    tables = [VALIDATED] if args.validated else SPLITS.values()
    write_recordings(args, splits, [os.path.join(args.source, table) for table in tables])


if __name__ == "__main__":
    run(main)
