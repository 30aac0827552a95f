#!/usr/bin/env python3
"""Decodes a split by several readings of the layers, with fairseq's decoder, in one process.

    python examples/demo/readings.py CHECKPOINT DATA SPLIT consensus best_layer 1 2 3

READING: a rule, the number of a layer, or as-trained. Writes what varan-infer writes to
decode-SPLIT/READING beside the checkpoint.
"""

import os
import sys

from varan_fairseq import evaluate


def options_of(reading):
    if reading == "as-trained":
        return {}
    return {"layer": int(reading)} if reading.isdigit() else {"combine": reading}


def main():
    checkpoint, data, split, *readings = sys.argv[1:]
    folder = os.path.join(os.path.dirname(checkpoint), f"decode-{split}")
    os.makedirs(folder, exist_ok=True)
    for reading in readings:
        out = f"{folder}/{reading}"
        scores = evaluate(checkpoint, data, split, out=out, **options_of(reading))
        print(f"{reading}: WER {scores['wer']:.2f}%  UER {scores['uer']:.2f}%", flush=True)


if __name__ == "__main__":
    main()
