#!/usr/bin/env python3
"""Which rule should combine the layers? Reads the validation split with trained VARAN models
by each rule, and by each layer alone.

    python benchmarks/rules.py work/digits work/human work/styles

Wants folders that `make demo`, `make human` and `make demo-emotion` filled. The test split is
not touched.
"""

import glob
import json
import os
import statistics
import subprocess
import sys

import torch

from varan_fairseq.method.combine import RULES


def decode(checkpoint: str, data: str, out: str):
    """Command line, and the scores to show."""
    command = ["infer", f"common_eval.path={checkpoint}", f"task.data={data}"]
    command += ["dataset.gen_subset=valid", f"decoding.results_path={out}"]
    return command, {"uer": "UER %", "wer": "WER %"}


def classify(checkpoint: str, data: str, out: str):
    """The same for a classifier."""
    command = ["classify", checkpoint, data, "valid", "--out", out]
    return command, {"accuracy": "accuracy %", "macro_f1": "macro F1 %"}


TOOLS = {"varan_ctc": decode, "varan_classification": classify}


def read(tool, checkpoint: str, data: str, reading):
    """Scores of one checkpoint with one reading, by their titles."""
    out = os.path.join(os.path.dirname(checkpoint), f"valid-{reading[-1]}")
    (name, *arguments), titles = tool(checkpoint, data, out)
    command = [sys.executable, "-m", f"varan_fairseq.cli.{name}", *arguments, *reading]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(out, "scores.json")) as file:
        scores = json.load(file)
    return {title: scores[key] for key, title in titles.items()}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for folder in sys.argv[1:]:
        checkpoints = sorted(glob.glob(os.path.join(folder, "varan-*", "checkpoint_last.pt")))
        if not checkpoints:
            sys.exit(f"no {folder}/varan-*/checkpoint_last.pt: run the demo that fills it first")
        state = torch.load(checkpoints[0])
        tool = TOOLS[state["cfg"]["model"]["_name"]]
        readings = [("--combine", rule) for rule in RULES]
        layers = len(state["model"]["prior.probs"])
        readings += [("--layer", str(layer)) for layer in range(1, layers + 1)]
        for reading in readings:
            each = [read(tool, path, os.path.join(folder, "data"), reading) for path in checkpoints]
            if reading == readings[0]:
                print("\n| corpus | reading | " + " | ".join(each[0]) + " |")
                print("| --- " * (2 + len(each[0])) + "|")
            means = (statistics.mean(scores[title] for scores in each) for title in each[0])
            cells = " | ".join(f"{mean:.2f}" for mean in means)
            name = os.path.basename(folder.rstrip("/"))
            print(f"| {name} | {' '.join(reading).strip('-')} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
