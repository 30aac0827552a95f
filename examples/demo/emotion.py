#!/usr/bin/env python3
"""Three ways of reading the layers, fine-tuned by stock fairseq to tell four speaking styles.
`make demo-emotion` calls this.

    python examples/demo/emotion.py [--seeds 1 2 3] [--set KEY=VALUE]

Run from the root of the repository. Everything goes to work/styles; what is there already is
not made again.
"""

import argparse
import json
import os
import statistics
import sys
import time

from runs import (
    AGGREGATIONS,
    add_run_options,
    call,
    folder_of,
    log_figures,
    run_all,
    spread,
    train,
    write_results,
)

WORK = "work/styles"
DATA = f"{WORK}/data"
COLUMNS = {
    "accuracy": "accuracy %",
    "unweighted_accuracy": "unweighted accuracy %",
    "macro_f1": "macro F1 %",
}


def finetune_and_classify(runs, pretrained, aggregation, seed, overrides):
    """One run of the table."""
    name = f"{runs}/{aggregation}-{seed}"
    options = [f"task.data={DATA}", f"model.w2v_path={pretrained}", f"common.seed={seed}"]
    checkpoint = train(name, "emotion", [*options, f"model.aggregation={aggregation}", *overrides])
    results = f"{name}/classify-test"
    call(["varan-classify", checkpoint, DATA, "test", "--out", results], f"{name}/classify.log")
    with open(f"{results}/scores.json", encoding="utf-8") as file:
        scores = json.load(file)
    figures = log_figures(f"{name}/train.log")
    return {"aggregation": aggregation, "seed": seed, **scores, **figures}


def table(rows):
    """Markdown: a line an aggregation."""
    yield f"| aggregation | {' | '.join(COLUMNS.values())} | updates | s/update | trained parameters |"
    yield "| --- " * (4 + len(COLUMNS)) + "|"
    for aggregation in AGGREGATIONS:
        mine = [row for row in rows if row["aggregation"] == aggregation]
        cells = " | ".join(spread(mine, key) for key in COLUMNS)
        speed = statistics.mean(row["seconds_per_update"] for row in mine)
        yield (
            f"| {aggregation} | {cells} | {mine[0]['updates']} | {speed:.2f} | "
            f"{mine[0]['trained_parameters']:,} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_run_options(parser)
    args = parser.parse_args()
    if not os.path.isdir("examples/demo"):
        sys.exit("emotion.py: run it from the root of the repository")

    start, runs = time.time(), folder_of(WORK, args.set)
    os.makedirs(WORK, exist_ok=True)
    if not os.path.exists(f"{DATA}/dict.emo.txt"):
        call(["python", "manifests/styles.py", DATA], f"{WORK}/data.log", bars=True)
    pretrained = train(
        f"{WORK}/pretrain",
        "pretrain",
        [f"task.data={DATA}", "optimization.max_update=100"],
        args.jobs,
    )
    every = [
        (runs, pretrained, name, seed, args.set) for seed in args.seeds for name in AGGREGATIONS
    ]
    rows = run_all(args.jobs, finetune_and_classify, every)

    best = f"{runs}/varan-{args.seeds[0]}"
    call(
        ["varan-layers", f"{best}/checkpoint_last.pt", DATA, "test", "--by-class"]
        + ["--out", f"{runs}/layers"],
        f"{runs}/layers.log",
    )
    write_results(runs, rows, list(table(rows)), time.time() - start)
    print(f"\n{rows[0]['utterances']} utterances of {DATA}/test.tsv, seeds {args.seeds}")
    print(f"confusion matrix: {best}/classify-test/confusion.png")
    print(f"which layers each style used: {runs}/layers.png")
    print(f"{runs}/results.json, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
