#!/usr/bin/env python3
"""A bigram language model of transcripts as an ARPA file, to try decoding with.

    python manifests/bigrams.py data/train.wrd lm.arpa

Witten-Bell smoothing. For a model of much text use KenLM's lmplz; its files are read alike.
"""

import argparse
import collections
import math

from labelled import refuse

from varan_fairseq.data.manifest import read_lines
from varan_fairseq.runtime.files import refuse_no_folder, write_lines

START, END, UNKNOWN = "<s>", "</s>", "<unk>"


def probabilities(lines):
    """(p(w), p(w | v) of pairs that occur, what v leaves to those that do not)."""
    words, pairs, firsts, kinds = (collections.Counter() for _ in range(4))
    for line in lines:
        said = [START, *line.split(), END]
        words.update(said[1:])
        pairs.update(zip(said, said[1:]))
    for (first, _), count in pairs.items():
        firsts[first] += count
        kinds[first] += 1
    total = sum(words.values()) + len(words)
    single = {word: count / total for word, count in words.items()}
    single[UNKNOWN] = len(words) / total  # as many as there are words: each could be a new one
    left = {first: kinds[first] / (firsts[first] + kinds[first]) for first in firsts}
    double = {
        (first, word): (1 - left[first]) * count / firsts[first] + left[first] * single[word]
        for (first, word), count in pairs.items()
    }
    return single, double, left


def arpa(single, double, left):
    """Lines of the file."""
    ones = [f"-99\t{START}\t{math.log10(left[START]):.6f}"]
    for word, p in sorted(single.items()):
        more = f"\t{math.log10(left[word]):.6f}" if word in left else ""
        ones.append(f"{math.log10(p):.6f}\t{word}{more}")
    twos = [f"{math.log10(p):.6f}\t{first} {word}" for (first, word), p in sorted(double.items())]
    head = ["\\data\\", f"ngram 1={len(ones)}", f"ngram 2={len(twos)}", ""]
    return [*head, "\\1-grams:", *ones, "", "\\2-grams:", *twos, "", "\\end\\"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("text", help="a line a transcript")
    options.add_argument("out", help="the ARPA file")
    args = options.parse_args()
    try:
        refuse_no_folder(args.out)
        lines = [line for line in read_lines(args.text) if line.split()]
    except (OSError, ValueError) as error:
        refuse(str(error))
    if not lines:
        refuse(f"{args.text} has no words")
    single, double, left = probabilities(lines)
    write_lines(args.out, arpa(single, double, left))
    print(f"{args.out}: {len(single)} words, {len(double)} pairs")


if __name__ == "__main__":
    main()
