#!/usr/bin/env python3
"""Four speaking styles from espeak-ng as a labelled corpus: the same kinds of sentence with
another pitch, range, rate and volume. Neither a voice nor a sentence is in two splits.

    python manifests/styles.py OUT [--train 960] [--valid 96] [--test 240]
"""

import argparse
import random

from varan_fairseq.corpora.options import add_labels_option, at_least_1, run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("out", help="folder for the audio and the manifests")
    options.add_argument("--train", type=at_least_1, default=960, help="training utterances")
    options.add_argument("--valid", type=at_least_1, default=96, help="validation utterances")
    options.add_argument("--test", type=at_least_1, default=240, help="test utterances")
    add_labels_option(options)
    options.add_argument("--seed", type=int, default=1)
    args = options.parse_args()
    from varan_fairseq.corpora.digits import VOICES
    from varan_fairseq.corpora.espeak import Espeak
    from varan_fairseq.corpora.labelled import write
    from varan_fairseq.corpora.styles import STYLES, make_split, sentences

    espeak, rng = Espeak(), random.Random(args.seed)
    texts, splits, samples = sentences(rng), {}, {}
    for split in VOICES:
        count = getattr(args, split)
        if count > len(texts):
            options.error(f"there are only {8**4} sentences for all splits together")
        splits[split], made = make_split(espeak, args.out, split, texts[:count], rng)
        samples.update(made)
        texts = texts[count:]
    write(args, args.out, splits, samples, STYLES)


if __name__ == "__main__":
    run(main)
