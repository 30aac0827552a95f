#!/usr/bin/env python3
"""How far word times are from the truth: digit strings that espeak-ng speaks and times.

    python benchmarks/word_times.py work/demo/hubert/lora-varan-1/checkpoint_last.pt

The error is that of a word's start, over the words of utterances without a mistake; voices of the
validation set. espeak-ng puts the closure of a stop into its word.
"""

import argparse
import random
from typing import List

import numpy as np
from measure import write_figures

import varan_fairseq
from varan_fairseq.corpora.digits import VOICES, speak
from varan_fairseq.corpora.espeak import Espeak


def spoken(count: int, seed: int = 1):
    """(words, samples at 16 kHz, onsets in seconds) of digit strings by validation voices."""
    espeak, rng = Espeak(), random.Random(seed)
    for _ in range(count):
        words, wave = speak(espeak, rng, VOICES["valid"])
        yield words, wave, list(espeak.onsets)


def errors(recognizer, count: int) -> List[float]:
    """Seconds, late ones positive, of every word of an utterance without a mistake."""
    found = []
    for words, wave, onsets in spoken(count):
        said = recognizer.recognize(wave).words
        if [word.text for word in said] == words and len(onsets) == len(words):
            found += [word.start - onset for word, onset in zip(said, onsets)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--count", type=int, default=300, help="digit strings")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    late = 1000 * np.array(errors(varan_fairseq.load(args.checkpoint), args.count))
    row = {
        "words": len(late),
        "median_ms": round(float(np.median(np.abs(late))), 1),
        "percentile_90_ms": round(float(np.percentile(np.abs(late), 90)), 1),
        "median_lateness_ms": round(float(np.median(late)), 1),
    }
    print(
        f"start of {row['words']} words: median error {row['median_ms']} ms, 90% within "
        f"{row['percentile_90_ms']} ms, median lateness {row['median_lateness_ms']} ms"
    )
    if args.json:
        write_figures(args.json, [row])


if __name__ == "__main__":
    main()
