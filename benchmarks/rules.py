#!/usr/bin/env python3
"""Which rule should combine the layers? Decodes the validation split of trained VARAN
models with each rule, and with each layer alone.

    python benchmarks/rules.py work/digits work/human

Wants folders that `make demo` and `make human` filled. The test split is not touched.
"""

import glob
import json
import os
import statistics
import subprocess
import sys

import torch

from varan_fairseq.method.combine import RULES


def decode(checkpoint: str, data: str, *reading: str):
    """(UER, WER) on the validation split."""
    out = os.path.join(os.path.dirname(checkpoint), f"decode-valid-{reading[-1]}")
    command = [sys.executable, "-m", "varan_fairseq.cli.infer", f"common_eval.path={checkpoint}"]
    command += [f"task.data={data}", "dataset.gen_subset=valid", f"decoding.results_path={out}"]
    subprocess.run(
        command + list(reading), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with open(os.path.join(out, "scores.json")) as file:
        scores = json.load(file)
    return scores["uer"], scores["wer"]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| corpus | reading | UER % | WER % |\n| --- | --- | --- | --- |")
    for folder in sys.argv[1:]:
        checkpoints = sorted(glob.glob(os.path.join(folder, "varan-*", "checkpoint_last.pt")))
        if not checkpoints:
            sys.exit(f"no {folder}/varan-*/checkpoint_last.pt: run make demo or make human first")
        layers = len(torch.load(checkpoints[0])["model"]["prior.probs"])
        readings = [("--combine", rule) for rule in RULES]
        readings += [("--layer", str(layer)) for layer in range(1, layers + 1)]
        for reading in readings:
            scores = [decode(path, os.path.join(folder, "data"), *reading) for path in checkpoints]
            uer, wer = (statistics.mean(values) for values in zip(*scores))
            name = os.path.basename(folder)
            print(
                f"| {name} | {' '.join(reading).strip('-')} | {uer:.2f} | {wer:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
