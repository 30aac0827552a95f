#!/usr/bin/env python3
"""What `model.layer_norm=auto` changes for an encoder that normalises before the block, as
every large one does: with it (a LayerNorm a layer before pooling and head) and without.

    python examples/demo/pre_norm.py --seeds 1 2 3

A tiny pre-norm HuBERT on synthetic digit strings, the same budget for all, UER on the
validation set. Run from the root of the repository; everything goes to work/digits.
"""

import argparse
import os
import sys
import time

import torch
from runs import (
    add_run_options,
    call,
    decode,
    folder_of,
    pretrain,
    run_all,
    spread,
    train,
    write_results,
)
from torch.nn import functional as F

from varan_fairseq.data.audio import read_audio
from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.upstream import build_encoder, load_weights, read_checkpoint

WORK = "work/digits"
DATA = f"{WORK}/data"
READINGS = {
    "auto": [],
    "false": ["model.layer_norm=false"],
}
BUDGET = ["model.feature_grad_mult=0", "optimization.max_update=300"]
WAYS = {
    "full": BUDGET,
    "probe": [*BUDGET, "model.finetune=probe", "optimization.lr=[0.03]"],
}
AGGREGATIONS = ["varan", "weighted_sum"]


def uer(runs, pretrained, way, aggregation, layer_norm, seed, settings):
    """One run: UER on the validation set."""
    name = f"{runs}/{way}-{aggregation}-{layer_norm}-{seed}"
    options = [f"task.data={DATA}", "task.normalize=true", f"model.w2v_path={pretrained}"]
    options += [f"model.aggregation={aggregation}", f"common.seed={seed}"]
    options += [*WAYS[way], *READINGS[layer_norm], *settings]
    scores = decode(train(name, "finetune", options), DATA, "valid", ["as-trained"])
    return {
        "way": way,
        "aggregation": aggregation,
        "layer_norm": layer_norm,
        "seed": seed,
        "uer": scores["as-trained"]["uer"],
    }


@torch.no_grad()
def sizes(pretrained):
    """A row a layer: the root mean square of its states on the validation set, and that of what the
    final norm makes of the last."""
    read = read_checkpoint(pretrained)
    encoder = build_encoder(read.config).eval()
    load_weights(encoder, read.weights, pretrained)
    manifest, squares, count = read_manifest(f"{DATA}/valid.tsv"), 0, 0
    for name, _ in manifest.entries:
        audio = torch.from_numpy(read_audio(os.path.join(manifest.root, name), 16000))
        found = encoder(F.layer_norm(audio, audio.shape)[None], None)
        states = torch.stack([*found.states, found.output])
        squares, count = squares + states.square().sum((1, 2, 3)), count + found.output.numel()
    names = [*range(1, encoder.num_layers + 1), "after the final norm"]
    return [
        {"layer": name, "rms": rms} for name, rms in zip(names, (squares / count).sqrt().tolist())
    ]


def table(rows):
    """Markdown: a line a way of fine-tuning and an aggregation; then the sizes of the states."""
    layers = [row for row in rows if "layer" in row]
    rows = [row for row in rows if "layer" not in row]
    yield (
        "| fine-tuning | aggregation | " + " | ".join(f"`layer_norm: {x}`" for x in READINGS) + " |"
    )
    yield "| --- | --- | --- | --- |"
    for way in WAYS:
        for aggregation in AGGREGATIONS:
            cells = [
                spread([r for r in rows if _key(r) == (way, aggregation, reading)], "uer")
                for reading in READINGS
            ]
            yield f"| {way} | {aggregation} | {' | '.join(cells)} |"
    yield ""
    yield "| layer | " + " | ".join(str(row["layer"]) for row in layers) + " |"
    yield "| --- " * (1 + len(layers)) + "|"
    yield "| root mean square | " + " | ".join(f"{row['rms']:.2f}" for row in layers) + " |"


def _key(row):
    return row["way"], row["aggregation"], row["layer_norm"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_run_options(parser)
    args = parser.parse_args()
    if not os.path.isdir("examples/demo"):
        sys.exit("pre_norm.py: run it from the root of the repository")

    start = time.time()
    os.makedirs(WORK, exist_ok=True)
    if not os.path.exists(f"{DATA}/dict.ltr.txt"):
        call(["python", "manifests/digits.py", DATA], f"{WORK}/data.log", bars=True)
    large = ["model.layer_norm_first=true", "model.extractor_mode=layer_norm"]
    large += ["task.normalize=true"]
    pretrained = pretrain(f"{WORK}/pretrain_pre_norm", DATA, "hubert", large, args.jobs)
    runs = folder_of(f"{WORK}/pre_norm", args.set)
    every = [
        (runs, pretrained, way, aggregation, reading, seed, args.set)
        for seed in args.seeds
        for way in WAYS
        for aggregation in AGGREGATIONS
        for reading in READINGS
    ]
    rows = run_all(args.jobs, uer, every) + sizes(pretrained)
    write_results(runs, rows, list(table(rows)), time.time() - start)
    print(f"\nUER % on {DATA}/valid.tsv, seeds {args.seeds}")
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
