#!/usr/bin/env python3
"""Spoken digit strings from espeak-ng, as a fairseq corpus whose test voices never occur
in training.

    python manifests/digits.py OUT [--train 3000] [--valid 100] [--test 200] [--phrases 1]
    python manifests/digits.py OUT --seconds 8 12
"""

import argparse
import os
import random

from varan_fairseq.corpora.options import at_least_1, run
from varan_fairseq.data.manifest import split_names, write_dictionary
from varan_fairseq.runtime.files import written_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", help="folder for the audio and the manifests")
    parser.add_argument("--train", type=at_least_1, default=3000, help="training strings")
    parser.add_argument("--valid", type=at_least_1, default=100, help="validation strings")
    parser.add_argument("--test", type=at_least_1, default=200, help="test strings")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--phrases", type=at_least_1, default=1, help="most in a string, with pauses between"
    )
    length.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="as many phrases as last so long; MAX - MIN is 4 or more",
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.seconds and not 0 < args.seconds[0] <= args.seconds[1] - 4:
        parser.error(f"--seconds {args.seconds[0]:g} {args.seconds[1]:g}: expected MIN + 4 <= MAX")
    from varan_fairseq.corpora.digits import VOICES, make_split, speak, speak_for
    from varan_fairseq.corpora.espeak import Espeak

    os.makedirs(args.out, exist_ok=True)
    espeak, rng = Espeak(), random.Random(args.seed)
    transcripts = []

    def speak_one(index):
        if args.seconds:
            words, wave = speak_for(espeak, rng, VOICES[split], *args.seconds)
        else:
            words, wave = speak(espeak, rng, VOICES[split], args.phrases)
        return " ".join(words), wave

    with written_whole(args.out, split_names(VOICES, ["wrd", "ltr"], "dict.ltr.txt")) as data:
        for split in VOICES:
            count = getattr(args, split)
            transcripts += make_split(args.out, data, split, count, rng, speak_one)
        write_dictionary(data, transcripts)
    print(f"{args.out}: {args.train} train, {args.valid} valid, {args.test} test strings")


if __name__ == "__main__":
    run(main)
