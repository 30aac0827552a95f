#!/usr/bin/env python3
"""What a VARAN model does with fewer blocks, beside models that were trained with so few.
`make depth` calls this, after `make demo`.

    python examples/demo/depth.py --seeds 1 2 3

The curve is of the demo's runs (varan-layers --curve), on the test set. The rival reads its last
layer, and is fine-tuned again for every number of blocks (model.keep_layers), with the demo's
settings and budget.
"""

import csv
import os
import statistics
import time

from compare import CORPORA, HUBERT, LAYERS, finetune_and_decode
from runs import call, demo_run, parse_seeds, run_all, spread, write_results

CENTRED = dict(textcoords="offset points", ha="center", fontsize=8)
WORK = "work/demo/depth"
DATA = "work/demo/data"


def curve(seed):
    """A row a depth of the demo's run."""
    checkpoint = demo_run(seed)
    prefix = f"{WORK}/curve-{seed}"
    layers = ["varan-layers", checkpoint, DATA, "test", "--curve", "--out", prefix]
    call(layers, f"{prefix}.log", threads=1)
    with open(f"{prefix}.tsv", encoding="utf-8") as file:
        return [
            {
                "layers": int(row["layers"]),
                "seed": seed,
                "wer": float(row["WER"]),
                "wer_alone": float(row["WER_of_this_layer_alone"]),
                "time": float(row["time"]),
                "multiply_adds": float(row["multiply_adds"]),
            }
            for row in csv.DictReader(file, delimiter="\t")
        ]


def rival(layers, seed):
    """WER of a model with so many blocks that reads the last of them."""
    overrides = [*CORPORA["demo"]["hubert"]["finetune"], *HUBERT, f"model.keep_layers={layers}"]
    pretrained = "work/demo/pretrain_hubert/checkpoint_last.pt"
    name = f"{WORK}/last_layer-{layers}-{seed}"
    options = (DATA, pretrained, "lora", "last_layer", seed, overrides, [None])
    return finetune_and_decode(name, *options)[0]["wer"]


def table(rows):
    """Markdown: a line a depth."""
    yield "| blocks | varan, cut | its last layer alone | last_layer, trained so | time | multiply-adds |"
    yield "| --- " * 6 + "|"
    for layers in sorted({row["layers"] for row in rows}):
        mine = [row for row in rows if row["layers"] == layers]
        cells = [spread(mine, key) for key in ("wer", "wer_alone", "wer_rival")]
        costs = [statistics.median(row[key] for row in mine) for key in ("time", "multiply_adds")]
        cells += [f"{cost:.2f}" for cost in costs]
        yield f"| {layers} | " + " | ".join(cells) + " |"


def picture(rows, path):
    """WER over time relative to all blocks: means, and ranges over the seeds."""
    from varan_fairseq.report.figures import BLUE, ORANGE
    from varan_fairseq.report.pictures import save_picture

    def draw(plt):
        figure, axis = plt.subplots(figsize=(6.4, 4.2), constrained_layout=True)
        depths = sorted({row["layers"] for row in rows})
        groups = [[row for row in rows if row["layers"] == layers] for layers in depths]
        times = [statistics.median(row["time"] for row in group) for group in groups]
        for key, label, style, colour in (
            ("wer_rival", "last_layer, trained with so many blocks", "s--", ORANGE),
            ("wer", "varan, one run, cut", "o-", BLUE),
        ):
            values = [[row[key] for row in group] for group in groups]
            means = [statistics.mean(each) for each in values]
            reach = [
                [mean - min(each) for mean, each in zip(means, values)],
                [max(each) - mean for mean, each in zip(means, values)],
            ]
            axis.errorbar(times, means, reach, fmt=style, color=colour, capsize=3, label=label)
        for layers, time_taken, group in zip(depths, times, groups):
            lowest = min(row["wer"] for row in group)
            axis.annotate(f"{layers}", (time_taken, lowest), (0, -14), **CENTRED)
        axis.set(xlabel="time, of that of all blocks (numbers: blocks)", ylabel="test WER %")
        axis.set_ylim(0, None)
        axis.legend(frameon=False)
        return figure

    save_picture(path, draw)


def main() -> None:
    args, start = parse_seeds(__doc__), time.time()
    os.makedirs(WORK, exist_ok=True)
    rows = [row for seed in args.seeds for row in curve(seed)]
    pairs = [(layers, seed) for seed in args.seeds for layers in range(1, LAYERS + 1)]
    rivals = dict(zip(pairs, run_all(args.jobs, rival, pairs)))
    for row in rows:
        row["wer_rival"] = rivals[row["layers"], row["seed"]]
    picture(rows, f"{WORK}/depth.png")
    write_results(WORK, rows, list(table(rows)), time.time() - start)


if __name__ == "__main__":
    main()
