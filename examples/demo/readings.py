#!/usr/bin/env python3
"""Decodes a split by several readings of the layers, with fairseq's decoder, in one process.

    python examples/demo/readings.py CHECKPOINT DATA SPLIT consensus best_layer 1 2 3

READING: a rule, the number of a layer, or as-trained. Writes what varan-infer writes to
decode-SPLIT/READING beside the checkpoint.
"""

import argparse
import os

from varan_fairseq import evaluate


def options_of(reading):
    if reading == "as-trained":
        return {}
    return {"layer": int(reading)} if reading.isdigit() else {"combine": reading}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "data", "split"):
        parser.add_argument(name)
    parser.add_argument("readings", nargs="+", metavar="READING")
    args = parser.parse_args()
    folder = os.path.join(os.path.dirname(args.checkpoint), f"decode-{args.split}")
    os.makedirs(folder, exist_ok=True)
    for reading in args.readings:
        options = {"out": f"{folder}/{reading}", **options_of(reading)}
        scores = evaluate(args.checkpoint, args.data, args.split, **options)
        print(f"{reading}: WER {scores['wer']:.2f}%  UER {scores['uer']:.2f}%", flush=True)


if __name__ == "__main__":
    main()
