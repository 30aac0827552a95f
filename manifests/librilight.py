#!/usr/bin/env python3
"""The limited sets of Libri-Light (10 minutes, 1 hour, 10 hours) as fairseq's manifests.

    python manifests/librilight.py librispeech_finetuning OUT --size 10h
    python manifests/librispeech.py LibriSpeech OUT --train

The first writes train, the second dev and test beside it. 10m is the first of the six sets of ten
minutes, 1h all six, 10h these and the nine hours.
"""

import argparse
import os
from dataclasses import replace

from librispeech import LETTERS

from varan_fairseq.corpora.options import refuse, run
from varan_fairseq.corpora.spoken import add_header_options, librispeech_utterances, write_corpus

# Folders of each size, and hours that they should have.
SIZES = {"10m": (["1h/0"], 1 / 6), "1h": (["1h"], 1), "10h": (["1h", "9h"], 10)}
TOLERANCE = 0.15  # of the hours


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("source", help="folder librispeech_finetuning")
    options.add_argument("out", help="folder for the manifests")
    options.add_argument("--size", choices=list(SIZES), required=True)
    add_header_options(options)
    args = options.parse_args()
    folders, hours = SIZES[args.size]
    root = os.path.realpath(args.source)
    rows = []
    for folder in folders:
        if not os.path.isdir(os.path.join(root, folder)):
            refuse(f"{args.source} has no folder {folder}, expected {folder}/clean/..")
        found = librispeech_utterances(os.path.join(root, folder), args.jobs, folder)
        rows += [replace(row, path=os.path.join(folder, row.path)) for row in found]
    there = sum(row.samples for row in rows) / 16000 / 3600
    if not rows or abs(there / hours - 1) > TOLERANCE and not args.allow_incomplete:
        hint = "; pass --allow-incomplete to continue with them" if rows else ""
        refuse(f"{args.source}: {there:.2f} hours for --size {args.size}{hint}")
    write_corpus(args.out, {"train": rows}, {"train": root}, LETTERS)


if __name__ == "__main__":
    run(main)
