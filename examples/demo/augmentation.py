#!/usr/bin/env python3
"""What augmentation of the waveform brings: LoRA on the demo's clean digits, read in four conditions.

    python examples/demo/augmentation.py --seeds 1 2 3

After `make demo`, with its settings and budget. Read on 600 more strings by the voices of the demo's
validation data, each of them clean, over a telephone, in a room, or in noise (manifests/conditions.py).
"""

import csv
import os
import time

from compare import another_run, more_strings
from runs import call, decode, demo_run, parse_seeds, run_all, spread, write_results

WORK = "work/demo/augmentation"
CONDITIONS = ["clean", "telephone", "reverberant", "noisy"]
WAYS = ["none", "room,noise,telephone", "speed,room,noise,telephone"]


def score(way, seed):
    """A row: WER of one training in each condition, by the vote."""
    if way == "none":
        checkpoint = demo_run(seed)
    else:
        name = f"{WORK}/{way.replace(',', '-')}-{seed}"
        checkpoint = another_run(name, "lora", seed, f"model.augment='{way}'")
    decode(checkpoint, f"{WORK}/data", "valid", ["vote"])
    with open(f"{os.path.dirname(checkpoint)}/decode-valid/vote/errors.tsv") as file:
        errors = list(csv.DictReader(file, delimiter="\t"))
    with open(f"{WORK}/data/valid.condition") as file:
        conditions = file.read().split()
    rates = {}
    for condition in CONDITIONS:
        rows = [row for row, name in zip(errors, conditions) if name == condition]
        wrong, words = (sum(int(row[key]) for row in rows) for key in ("word_errors", "words"))
        rates[condition] = 100 * wrong / words
    return {"augment": way, "seed": seed, **rates}


def table(rows):
    """Markdown: one line per way."""
    yield "| model.augment, WER % | clean | telephone | reverberant | noisy |"
    yield "| --- " * 5 + "|"
    for way in WAYS:
        mine = [row for row in rows if row["augment"] == way]
        yield f"| {way} | " + " | ".join(spread(mine, each) for each in CONDITIONS) + " |"


def main() -> None:
    args, start = parse_seeds(__doc__), time.time()
    for seed in args.seeds:
        demo_run(seed)  # before any work
    more_strings(f"{WORK}/clean")
    if not os.path.exists(f"{WORK}/data/valid.tsv"):
        conditions = ["python", "manifests/conditions.py", f"{WORK}/clean", f"{WORK}/data"]
        call(conditions, f"{WORK}/conditions.log", bars=True)
    runs = [(way, seed) for way in WAYS for seed in args.seeds]
    rows = run_all(args.jobs, score, runs)
    write_results(WORK, rows, list(table(rows)), time.time() - start)


if __name__ == "__main__":
    main()
