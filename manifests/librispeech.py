#!/usr/bin/env python3
"""LibriSpeech as fairseq's manifests, audio where it is.

    python manifests/librispeech.py LibriSpeech OUT [--train train-clean-100 train-clean-360 ..]

Writes train (the splits of --train together) and every dev and test split that is there, as
dev_clean, dev_other, test_clean, test_other: .tsv, .wrd, .ltr, .spk; dict.ltr.txt and lexicon.txt
of train. `--train` without a name writes dev and test alone, beside what librilight.py wrote.
"""

import argparse
import os
from dataclasses import replace

from varan_fairseq.corpora.options import refuse, run
from varan_fairseq.corpora.spoken import add_header_options, librispeech_utterances, write_corpus

# Utterances of each split.
SPLITS = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"


def read_split(args: argparse.Namespace, name: str):
    """Utterances of a split, their paths relative to the corpus."""
    rows = librispeech_utterances(os.path.join(args.source, name), args.jobs, name)
    if len(rows) != SPLITS[name] and not (args.allow_incomplete and rows):
        hint = "; pass --allow-incomplete to continue with them" if rows else ""
        refuse(f"{name} has {len(rows)} utterances, expected {SPLITS[name]}{hint}")
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("source", help="folder LibriSpeech")
    options.add_argument("out", help="folder for the manifests")
    training = [name for name in SPLITS if name.startswith("train")]
    options.add_argument(
        "--train", nargs="*", default=["train-clean-100"], choices=training, metavar="SPLIT"
    )
    add_header_options(options)
    args = options.parse_args()
    args.train = list(dict.fromkeys(args.train))  # a split twice would be trained on twice
    root = os.path.realpath(args.source)
    there = [name for name in SPLITS if os.path.isdir(os.path.join(root, name))]
    missing = [name for name in args.train if name not in there]
    if missing or not there:
        refuse(f"{args.source} has no folder {missing[0] if missing else ' or '.join(SPLITS)}")

    splits, roots = {}, {}
    if args.train:
        one = len(args.train) == 1
        roots["train"] = os.path.join(root, args.train[0]) if one else root
        splits["train"] = []
        for name in args.train:
            rows = read_split(args, name)
            # one split is written as fairseq's script writes it
            above = "" if one else name
            splits["train"] += [replace(row, path=os.path.join(above, row.path)) for row in rows]
    for name in there:
        if not name.startswith("train"):
            split = name.replace("-", "_")
            roots[split] = os.path.join(root, name)
            splits[split] = read_split(args, name)
    write_corpus(args.out, splits, roots, LETTERS, trains=bool(args.train))


if __name__ == "__main__":
    run(main)
