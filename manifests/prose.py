#!/usr/bin/env python3
"""English prose of 8 to 12 seconds by three synthesizers, as a fairseq corpus whose test set has
voices, sentences and a synthesizer that occur in no training.

    python manifests/prose.py OUT [--train 800] [--valid 100] [--test 200] [--seconds 8 12]

Needs flite and festival (Debian: flite, festival, festvox-kdlpc16k, festvox-us-slt-hts). The
sentences are those of sentences.py, joined with pauses; each is in one split. `test.condition` says
which synthesizer read an utterance, one per line.
"""

import argparse
import os
import random

from varan_fairseq.corpora.options import at_least_1, run
from varan_fairseq.data.manifest import split_names, write_dictionary
from varan_fairseq.runtime.files import write_lines, written_whole

PACKAGES = "flite festival festvox-kdlpc16k festvox-us-slt-hts"
SHARES = {"valid": 0.05, "test": 0.15}  # of the sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", help="folder for the audio and the manifests")
    parser.add_argument("--train", type=at_least_1, default=800, help="training recordings")
    parser.add_argument("--valid", type=at_least_1, default=100, help="validation recordings")
    parser.add_argument("--test", type=at_least_1, default=200, help="test recordings")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=[8, 12], metavar=("MIN", "MAX"), help="of each"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    shortest, longest = args.seconds
    if not 0 < shortest < longest:
        parser.error(f"--seconds {shortest:g} {longest:g}: expected 0 < MIN < MAX")
    from varan_fairseq.corpora.digits import make_split
    from varan_fairseq.corpora.sentences import sentences
    from varan_fairseq.corpora.synthesizers import SPLITS, Reader, draw_voice, missing_programs

    missing = missing_programs()
    if missing:
        parser.error(f"{' and '.join(missing)} not installed: apt-get install {PACKAGES}")
    rng, texts = random.Random(args.seed), sentences()
    known = len(texts)
    rng.shuffle(texts)
    parts = {}
    for split, share in SHARES.items():
        count = round(share * len(texts))
        parts[split], texts = texts[:count], texts[count:]
    parts["train"] = texts
    reader, transcripts = Reader(rng), []
    names = split_names(SPLITS, ["condition", "wrd", "ltr"], "dict.ltr.txt")
    os.makedirs(args.out, exist_ok=True)
    with written_whole(args.out, names) as data:
        for split in SPLITS:
            voices = []

            def speak_one(index, split=split, voices=voices):
                voices.append(draw_voice(rng, split))
                return reader.recording(voices[-1], parts[split], shortest, longest)

            transcripts += make_split(args.out, data, split, getattr(args, split), rng, speak_one)
            write_lines(f"{data}/{split}.condition", [voice.synthesizer for voice in voices])
        write_dictionary(data, transcripts)
    shown = ", ".join(f"{getattr(args, split)} {split}" for split in SPLITS)
    print(f"{args.out}: {shown}, of {known} sentences")


if __name__ == "__main__":
    run(main)
