#!/usr/bin/env python3
"""A flat prior beside the paper's, on the demo's encoder and corpus: all of the encoder trained,
LoRA, and nothing of it. `make prior` calls this, after `make demo`.

    python examples/demo/prior.py --seeds 1 2 3

The demo's settings and budget. Read on 600 more strings by the voices of the demo's validation data, on
which a default is chosen: its own 100 strings do not tell such differences from chance.
"""

import time

from compare import LAYERS, another_run, more_strings
from runs import decode, demo_run, parse_seeds, run_all, spread, write_results

WORK = "work/demo/prior"
MORE = f"{WORK}/data"
PRIORS = ["uniform", "chi2_reversed"]
WAYS = ["full", "lora", "probe"]
READINGS = ["vote", "consensus", "best_layer", 1, LAYERS]


def score(way, prior, seed):
    """A row: WER of one training on validation data, by each reading."""
    if (way, prior) == ("lora", "uniform"):
        checkpoint = demo_run(seed)
    else:
        name = f"{WORK}/{way}-{prior}-{seed}"
        checkpoint = another_run(name, way, seed, f"criterion.prior={prior}")
    scores = decode(checkpoint, MORE, "valid", READINGS)
    rates = {str(reading): scores[reading]["wer"] for reading in READINGS}
    return {"finetune": way, "prior": prior, "seed": seed, **rates}


def table(rows):
    """Markdown: a line a way of fine-tuning and prior."""
    yield "| validation WER % | prior | vote | consensus | best_layer | first layer | last layer |"
    yield "| --- " * 7 + "|"
    for way in WAYS:
        for prior in PRIORS:
            mine = [row for row in rows if (row["finetune"], row["prior"]) == (way, prior)]
            keys = ("vote", "consensus", "best_layer", "1", str(LAYERS))
            cells = " | ".join(spread(mine, key) for key in keys)
            yield f"| {way} | {prior} | {cells} |"


def main() -> None:
    args, start = parse_seeds(__doc__), time.time()
    for seed in args.seeds:
        demo_run(seed)  # before any work
    more_strings(MORE)
    runs = [(way, prior, seed) for way in WAYS for prior in PRIORS for seed in args.seeds]
    rows = run_all(args.jobs, score, runs)
    write_results(WORK, rows, list(table(rows)), time.time() - start)


if __name__ == "__main__":
    main()
