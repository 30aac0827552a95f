#!/usr/bin/env python3
"""Which rule should combine the layers? Reads the validation split with trained VARAN models
by each rule, and by each layer alone.

    python benchmarks/rules.py work/demo/hubert work/styles [--json FILE]

Wants folders that `make demo`, `make demo-emotion` and the like filled. The test split is not
touched.
"""

import argparse
import contextlib
import glob
import io
import json
import os
import statistics
import sys

import torch
from measure import write_figures
from tqdm import tqdm

from varan_fairseq.cli import classify, infer
from varan_fairseq.method.combine import CTC_RULES, RULES

SCORES = {
    "varan_ctc": {"uer": "UER %", "wer": "WER %"},
    "varan_classification": {"accuracy": "accuracy %", "macro_f1": "macro F1 %"},
}


def read(kind, checkpoint: str, data: str, reading):
    """Scores of one checkpoint with one reading."""
    out = os.path.join(os.path.dirname(checkpoint), f"valid-{reading[-1]}")
    if kind == "varan_ctc":
        arguments = [f"common_eval.path={checkpoint}", f"task.data={data}"]
        arguments += ["dataset.gen_subset=valid", f"decoding.results_path={out}"]
        tool = infer.main
    else:
        arguments, tool = [checkpoint, data, "valid", "--out", out], classify.main
    with contextlib.redirect_stdout(io.StringIO()):
        if tool([*arguments, *reading]):
            sys.exit(f"{checkpoint} could not be read")
    with open(os.path.join(out, "asr.json")) as file:
        scores = json.load(file)
    return {key: scores[key] for key in SCORES[kind]}


def measure(folder: str):
    """A row for each reading: means over the seeds in a folder."""
    checkpoints = sorted(glob.glob(os.path.join(folder, "*varan-*", "checkpoint_last.pt")))
    if not checkpoints:
        sys.exit(f"no {folder}/*varan-*/checkpoint_last.pt: run the demo that fills it first")
    state = torch.load(checkpoints[0])
    kind, layers = state["cfg"]["model"]["_name"], len(state["model"]["prior.probs"])
    rules = CTC_RULES if kind == "varan_ctc" else RULES
    readings = [("--combine", rule) for rule in rules]
    readings += [("--layer", str(layer)) for layer in range(1, layers + 1)]
    name = folder.rstrip("/").split("work/")[-1]
    data = glob.glob(os.path.join(folder, "data")) + glob.glob(os.path.join(folder, "..", "data"))
    for reading in tqdm(readings, desc=name):
        each = [read(kind, path, data[0], reading) for path in checkpoints]
        means = {key: statistics.mean(scores[key] for scores in each) for key in each[0]}
        title = " ".join(reading).strip("-")
        yield {"corpus": name, "kind": kind, "reading": title, "seeds": len(each), **means}


def table(rows):
    """Markdown: a table for each kind of model."""
    for kind, titles in SCORES.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            yield "| corpus | reading | " + " | ".join(titles.values()) + " |"
            yield "| --- " * (2 + len(titles)) + "|"
        for row in mine:
            cells = " | ".join(f"{row[key]:.2f}" for key in titles)
            yield f"| {row['corpus']} | {row['reading']} | {cells} |"
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    rows = [row for folder in args.folders for row in measure(folder)]
    print("\n".join(table(rows)))
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
