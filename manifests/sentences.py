#!/usr/bin/env python3
"""English prose read by espeak-ng in many voices, as a fairseq corpus: audio to pre-train on where
no speech is to be had. The sentences are those of Python's own documentation (`pydoc_data`).

    python manifests/sentences.py OUT [--train 3000] [--valid 60]

Each sentence is in one split; voices, rate and pitch are drawn for each recording. Its test
voices are those of digits.py and never occur here.
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
    parser.add_argument("--train", type=at_least_1, default=3000, help="training recordings")
    parser.add_argument("--valid", type=at_least_1, default=60, help="validation recordings")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from varan_fairseq.corpora.digits import VOICES, make_split
    from varan_fairseq.corpora.espeak import Espeak
    from varan_fairseq.corpora.sentences import VALID, read_aloud, sentences

    os.makedirs(args.out, exist_ok=True)
    espeak, rng, texts = Espeak(), random.Random(args.seed), sentences()
    rng.shuffle(texts)
    held_out = max(1, round(VALID * len(texts)))
    parts = {"train": texts[held_out:], "valid": texts[:held_out]}
    transcripts = []
    with written_whole(args.out, split_names(parts, ["wrd", "ltr"], "dict.ltr.txt")) as data:
        for split, part in parts.items():

            def speak_one(index, split=split, part=part):  # each as often, or once more
                return read_aloud(espeak, rng, VOICES[split], part[index % len(part)])

            transcripts += make_split(args.out, data, split, getattr(args, split), rng, speak_one)
        write_dictionary(data, transcripts)
    print(f"{args.out}: {args.train} train, {args.valid} valid of {len(texts)} sentences")


if __name__ == "__main__":
    run(main)
