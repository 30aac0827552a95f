#!/usr/bin/env python3
"""Three ways of reading the layers, fine-tuned by stock fairseq with the same budget and
decoded by fairseq's decoder. `make demo` calls this.

    python examples/demo/compare.py demo --base hubert --finetune lora --seeds 1 2 3

Run from the root of the repository. Everything goes to work/<corpus>; what is there
already is not made again.
"""

import argparse
import os
import shutil
import sys
import time

from runs import (
    AGGREGATIONS,
    RULES,
    add_run_options,
    call,
    decode,
    folder_of,
    log_figures,
    pretrain,
    run_all,
    spread,
    train,
    write_results,
)

CORPORA = {
    # the digits again with less of everything, for `make demo`
    "demo": dict(
        script="manifests/digits.py",
        wav2vec2=dict(pretrain=[], finetune=[]),
        hubert=dict(
            pretrain=["optimization.max_update=600"], finetune=["optimization.max_update=250"]
        ),
    ),
    "digits": dict(
        script="manifests/digits.py",
        wav2vec2=dict(pretrain=[], finetune=[]),
        hubert=dict(pretrain=[], finetune=["optimization.max_update=300"]),
    ),
    "human": dict(
        script="manifests/asterisk.py",
        wav2vec2=dict(
            pretrain=["optimization.max_update=300"],
            finetune=["optimization.max_update=450", "dataset.max_tokens=500000"],
        ),
        hubert=dict(
            pretrain=["optimization.max_update=2000"],
            finetune=[
                "optimization.max_update=400",
                "dataset.max_tokens=500000",
                "dataset.batch_size=8",
            ],
        ),
    ),
}
FINETUNE = {
    "full": [],
    "lora": ["model.lora_rank=16", "optimization.lr=[0.01]"],
    "dora": ["model.lora_rank=16", "model.lora_magnitude=true", "optimization.lr=[0.01]"],
    "probe": ["model.finetune=probe", "optimization.lr=[0.03]"],
}

HUBERT = ["model.feature_grad_mult=0"]  # its feature encoder stays as it was pre-trained


# Lines and columns of the tables.
READINGS = [("last_layer", None), ("weighted_sum", None), *(("varan", rule) for rule in RULES)]
LAYERS = 6


def another_run(name, way, seed, *overrides):
    """The checkpoint of VARAN with the demo's data, encoder, settings and budget, but for the overrides.
    way: of `FINETUNE`."""
    pretrained = "work/demo/pretrain_hubert/checkpoint_last.pt"
    options = ["task.data=work/demo/data", f"model.w2v_path={pretrained}", f"common.seed={seed}"]
    options += [*CORPORA["demo"]["hubert"]["finetune"], *HUBERT, *FINETUNE[way]]
    return train(name, "finetune", [*options, *overrides])


def more_strings(folder):
    """600 more validation strings, on which something is chosen or told: the demo's own 100 are too few."""
    if not os.path.exists(f"{folder}/valid.tsv"):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        counts = ["--train", "10", "--valid", "600", "--test", "10", "--seed", "77"]
        log = f"{os.path.dirname(folder)}/data.log"
        call(["python", "manifests/digits.py", folder, *counts], log, bars=True)
    shutil.copy("work/demo/data/dict.ltr.txt", folder)  # in the order that the models have


def finetune_and_decode(name, data, pretrained, finetune, aggregation, seed, overrides, readings):
    """One training, and a row for each of `readings` of it."""
    where = [f"task.data={data}", f"model.w2v_path={pretrained}"]
    options = [f"model.aggregation={aggregation}", f"common.seed={seed}"]
    options += [*FINETUNE[finetune], *overrides]
    last = dict(option.split("=", 1) for option in options)
    checkpoint = train(name, "finetune", where + [f"{key}={last[key]}" for key in last])
    scores = decode(checkpoint, data, "test", [reading or "as-trained" for reading in readings])
    return [
        {
            "finetune": finetune,
            "aggregation": aggregation,
            "reading": reading,
            "seed": seed,
            "uer": scores[reading or "as-trained"]["uer"],
            "wer": scores[reading or "as-trained"]["wer"],
            **log_figures(os.path.join(name, "train.log")),
        }
        for reading in readings
    ]


def title(aggregation, reading):
    return aggregation if reading is None else f"{aggregation}, {reading}"


def pick(rows, aggregation, reading):
    """Those of a line, one a seed."""
    return [r for r in rows if (r["aggregation"], r["reading"]) == (aggregation, reading)]


def table(rows):
    """Markdown: a line an aggregation and reading, then VARAN's layers."""
    yield "| layers read by | UER % | WER % | updates | trained parameters |"
    yield "| --- | --- | --- | --- | --- |"
    for line in READINGS:
        mine = pick(rows, *line)
        yield (
            f"| {title(*line)} | {spread(mine, 'uer')} | {spread(mine, 'wer')} | "
            f"{mine[0]['updates']} | {mine[0]['trained_parameters']:,} |"
        )
    yield ""
    layers = range(1, LAYERS + 1)
    yield "| varan, one layer alone | " + " | ".join(map(str, layers)) + " |"
    yield "| --- " * (1 + LAYERS) + "|"
    for key in ("uer", "wer"):
        cells = [spread(pick(rows, "varan", layer), key) for layer in layers]
        yield f"| {key.upper()} % | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--base", choices=["wav2vec2", "hubert"], default="wav2vec2")
    parser.add_argument("--finetune", choices=FINETUNE, default="full")
    add_run_options(parser)
    args = parser.parse_args()
    if not os.path.isdir("examples/demo"):
        sys.exit("compare.py: run it from the root of the repository")

    start, corpus, work = time.time(), CORPORA[args.corpus], f"work/{args.corpus}"
    options, data = corpus[args.base], f"{work}/data"
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(f"{data}/dict.ltr.txt"):
        call(["python", corpus["script"], data], f"{work}/data.log", bars=True)
    pretrained = pretrain(f"{work}/pretrain", data, args.base, options["pretrain"], args.jobs)
    # Results and runs of the second base beside those of the first.
    runs, overrides = work, options["finetune"]
    if args.base == "hubert":
        runs, overrides = f"{work}/hubert", [*overrides, *HUBERT]
    runs, overrides = folder_of(runs, args.set), [*overrides, *args.set]

    way = args.finetune

    def folder(aggregation, seed):
        prefix = "" if way == "full" else f"{way}-"
        return f"{runs}/{prefix}{aggregation}-{seed}"

    readings = dict.fromkeys(AGGREGATIONS, [None])
    readings["varan"] = [*RULES, *range(1, LAYERS + 1)]
    every = [
        (folder(name, seed), data, pretrained, way, name, seed, overrides, readings[name])
        for seed in args.seeds
        for name in AGGREGATIONS
    ]
    rows = [row for run in run_all(args.jobs, finetune_and_decode, every) for row in run]

    picture = folder("varan", args.seeds[0])
    for name, options in (("layers", []), ("vote", ["--vote"])):
        layers = ["varan-layers", f"{picture}/checkpoint_last.pt", data, "test", *options]
        call([*layers, "--out", f"{runs}/{name}"], f"{runs}/{name}.log")
    write_results(runs, rows, list(table(rows)), time.time() - start)
    print(f"\nWER from fairseq's decoder on {data}/test.tsv, seeds {args.seeds}")
    print(f"how the layers voted on an utterance: {runs}/vote.png")
    print(f"which layers each utterance used: {runs}/layers.png")
    print(f"{runs}/results.json, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
