#!/usr/bin/env python3
"""A bigram language model of transcripts as an ARPA file, to try decoding with.

    python manifests/bigrams.py data/train.wrd lm.arpa

Witten-Bell smoothing. For a model of much text use KenLM's lmplz; its files are read alike.
"""

import argparse

from varan_fairseq.corpora.bigrams import arpa, probabilities
from varan_fairseq.corpora.options import refuse, run
from varan_fairseq.data.manifest import read_lines
from varan_fairseq.runtime.files import refuse_output, write_lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("text", help="a line a transcript")
    options.add_argument("out", help="the ARPA file")
    args = options.parse_args()
    try:
        refuse_output(args.out, b"\\data\\", args.text)
        lines = [line for line in read_lines(args.text) if line.split()]
    except (OSError, ValueError) as error:
        refuse(str(error))
    if not lines:
        refuse(f"{args.text} has no words")
    single, double, left = probabilities(lines)
    write_lines(args.out, arpa(single, double, left))
    print(f"{args.out}: {len(single)} words, {len(double)} pairs")


if __name__ == "__main__":
    run(main)
