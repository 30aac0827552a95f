#!/usr/bin/env python3
"""What VARAN costs on each kind of encoder.

    python benchmarks/encoders.py [--json encoders.json]    # base sizes, a few minutes
    python benchmarks/encoders.py --sizes [--json ..]       # one training step of each size

Random weights; fp16 on a GPU, float32 on a CPU. Time: medians, interleaved in one process.
Memory: peak that the first two steps add to the model, each in a fresh process (with --sizes:
of one step, weights and optimizer included).
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
from models import CUDA, ENCODERS, build, training_step
from tqdm import tqdm

BATCH, SECONDS, LABELS = (16, 15, 200) if CUDA else (2, 8, 100)
READINGS = ("last_layer", "varan")


def stepper(encoder: str, aggregation: str):
    """A function that does one training step of `varan_ctc`."""
    task, model = build("varan_ctc", encoder, aggregation=aggregation)
    return training_step(task, model, "varan_ctc", BATCH, SECONDS, LABELS)


def memory_of(encoder: str, aggregation: str) -> float:
    """MB that the first two steps add."""
    step = stepper(encoder, aggregation)
    return peak_megabytes(lambda: (step(), step()))


def size_of(encoder: str) -> float:
    """MB of one step of one utterance, counted from before the model is there."""

    def work():
        task, model = build("varan_ctc", encoder)
        training_step(task, model, "varan_ctc", 1, SECONDS, LABELS)()

    return peak_megabytes(work)


def compare_readings(rounds: int):
    """One row per kind: seconds and megabytes of varan over those of last_layer."""
    encoders = [name for name in ENCODERS if name.endswith("base")]
    cases = [(encoder, name) for encoder in encoders for name in READINGS]
    megabytes = dict(zip(cases, fresh_megabytes(__file__, cases, 1)))
    for encoder in tqdm(encoders):
        steps = {name: stepper(encoder, name) for name in READINGS}
        seconds = interleaved_seconds(steps, rounds)
        del steps
        memory = {name: megabytes[encoder, name] for name in READINGS}
        yield {
            "encoder": encoder,
            **{f"{name}_seconds": short(seconds[name]) for name in READINGS},
            **{f"{name}_megabytes": round(memory[name]) for name in READINGS},
            "time": round(seconds["varan"] / seconds["last_layer"], 3),
            "time_wanted": 1.05,
            "memory": round(memory["varan"] / memory["last_layer"], 3),
            "memory_wanted": 1.10,
        }


def sizes():
    """A row an encoder: one training step."""
    megabytes = fresh_megabytes(__file__, [(encoder,) for encoder in ENCODERS], 1)
    for encoder, memory in tqdm(list(zip(ENCODERS, megabytes))):
        _, model = build("varan_ctc", encoder)
        parameters = sum(parameter.numel() for parameter in model.w2v_encoder.parameters())
        yield {
            "encoder": encoder,
            "million_parameters": round(parameters / 1e6, 1),
            "megabytes": round(memory),
        }


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 7)
    parser.add_argument("--sizes", action="store_true", help="one step of each released size")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    if args.memory:
        print((memory_of if len(args.memory) > 1 else size_of)(*args.memory))
        return
    if args.sizes:
        print(f"one utterance of {SECONDS} s")
        report(list(sizes()), args.json)
        return
    keep_freed_memory()
    print(f"{BATCH} utterances of {SECONDS} s")
    report(list(compare_readings(args.rounds)), args.json)


if __name__ == "__main__":
    main()
