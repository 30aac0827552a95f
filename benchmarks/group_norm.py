#!/usr/bin/env python3
"""What it costs to leave padding out of the feature encoder's group norm
(`model.mask_group_norm`): a training step with it against one without, base encoder with random
weights, feature encoder frozen and trained.

    python benchmarks/group_norm.py [--json group-norm.json]

fp16 on a GPU, float32 on a CPU. Medians, interleaved in one process.
"""

import argparse
import logging

import torch
from measure import cores, interleaved_seconds, keep_freed_memory, report, short
from models import CUDA, build, training_step
from tqdm import tqdm

BATCH, SECONDS, LABELS = (16, 15, 200) if CUDA else (2, 8, 100)


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 7)
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(cores())
    keep_freed_memory()
    print(f"{BATCH} utterances of {SECONDS} s, the shortest 80% of that")
    rows = []
    for name, grad_mult in tqdm([("frozen", 0.0), ("trained", 1.0)]):
        steps = {}
        for masked in (False, True):
            task, model = build("varan_ctc", mask_group_norm=masked, feature_grad_mult=grad_mult)
            steps[masked] = training_step(task, model, "varan_ctc", BATCH, SECONDS, LABELS)
        seconds = interleaved_seconds(steps, args.rounds)
        row = {
            "feature encoder": name,
            "with_padding_seconds": short(seconds[False]),
            "without_seconds": short(seconds[True]),
            "time": round(seconds[True] / seconds[False], 3),
            "time_wanted": 1.02,
        }
        rows.append(row)
    report(rows, args.json)


if __name__ == "__main__":
    main()
