#!/usr/bin/env python3
"""Decodes a split by several readings of the layers, with fairseq's decoder, in one process.

    python examples/demo/readings.py CHECKPOINT DATA SPLIT consensus best_layer 1 2 3

READING: a rule, the number of a layer, or as-trained. Writes what varan-infer writes to
decode-SPLIT/READING beside the checkpoint.
"""

import os
import sys

from varan_fairseq.cli import infer


def main():
    checkpoint, data, split, *readings = sys.argv[1:]
    folder = os.path.join(os.path.dirname(checkpoint), f"decode-{split}")
    os.makedirs(folder, exist_ok=True)
    for reading in readings:
        option = ["--layer" if reading.isdigit() else "--combine", reading]
        code = infer.main(
            [f"common_eval.path={checkpoint}", f"task.data={data}", f"dataset.gen_subset={split}"]
            + [f"decoding.results_path={folder}/{reading}"]
            + ([] if reading == "as-trained" else option)
        )
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
