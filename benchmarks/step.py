#!/usr/bin/env python3
"""A whole training step (forward, backward, Adam) of `varan_ctc` against fairseq's own
`wav2vec_ctc` with its `ctc` criterion: base encoder, random weights.

    python benchmarks/step.py

fp16 on a GPU, float32 on a CPU. Time: medians, interleaved in one process. Memory: peak
that the first two steps add to the model, each in a fresh process.
"""

import argparse
import logging

import torch
from measure import (
    cores,
    fresh_megabytes,
    interleaved_seconds,
    keep_freed_memory,
    peak_megabytes,
    report,
    short,
)
from models import CUDA, build, training_step

BATCH, SECONDS, POSITIONS = (20, 10, 130) if CUDA else (2, 8, 100)
CRITERIA = {"wav2vec_ctc": "ctc", "varan_ctc": "varan_ctc"}


def stepper(name: str):
    """A function that does one training step, and the parameters of its model in millions."""
    task, model = build(name)
    step = training_step(task, model, CRITERIA[name], BATCH, SECONDS, POSITIONS)
    return step, sum(parameter.numel() for parameter in model.parameters()) / 1e6


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 12)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", metavar="MODEL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    if args.memory:
        step, _ = stepper(args.memory)
        print(peak_megabytes(lambda: (step(), step())))
        return
    keep_freed_memory()
    names = tuple(CRITERIA)
    built = {name: stepper(name) for name in names}
    seconds = interleaved_seconds({name: built[name][0] for name in names}, args.rounds)
    memory = dict(zip(names, fresh_megabytes(__file__, [(name,) for name in names], 3)))
    rows = [
        {
            "model": name,
            "seconds": short(seconds[name]),
            "megabytes": round(memory[name]),
            "million_parameters": round(built[name][1], 1),
            "time": round(seconds[name] / seconds[names[0]], 3),
            "memory": round(memory[name] / memory[names[0]], 3),
        }
        for name in names
    ]
    report(rows, args.json)
    print(f"{BATCH} utterances of {SECONDS} s; wanted: time 1.05, memory 1.10")


if __name__ == "__main__":
    main()
