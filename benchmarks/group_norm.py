#!/usr/bin/env python3
"""What it costs to leave padding out of the feature encoder's group norm
(`model.mask_group_norm`): a training step with it against one without, base encoder with random
weights, feature encoder frozen and trained.

    python benchmarks/group_norm.py

fp16 on a GPU, float32 on a CPU. Medians, interleaved in one process.
"""

import argparse
import logging
import os

import torch
from measure import interleaved_seconds, keep_freed_memory
from models import CUDA, build, training_step

BATCH, SECONDS, LABELS = (16, 15, 200) if CUDA else (2, 8, 100)


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 7)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    keep_freed_memory()
    print(
        f"{torch.cuda.get_device_name() + ', fp16' if CUDA else 'CPU, float32'}, torch "
        f"{torch.__version__}; {BATCH} utterances of {SECONDS} s, the shortest 80% of that"
    )
    for name, grad_mult in (("frozen", 0.0), ("trained", 1.0)):
        steps = {}
        for masked in (False, True):
            task, model = build("varan_ctc", mask_group_norm=masked, feature_grad_mult=grad_mult)
            steps[masked] = training_step(task, model, "varan_ctc", BATCH, SECONDS, LABELS)
        seconds = interleaved_seconds(steps, args.rounds)
        print(
            f"feature encoder {name}: {seconds[False]:.3f} s, masked {seconds[True]:.3f} s, ratio "
            f"{seconds[True] / seconds[False]:.3f} (wanted 1.02)",
            flush=True,
        )


if __name__ == "__main__":
    main()
