"""varan-crossval: trains and tests every fold of a corpus, mean and standard deviation.

Trains by fairseq-hydra-train's multirun, so all of its options and overrides work; folds that
are trained already, to optimization.max_update, are only tested. Writes crossval.json, and each
fold's results beside its checkpoint.
"""

import argparse
import glob
import json
import os
import re
import statistics
import subprocess
import sys
from typing import List, Optional

from omegaconf import OmegaConf

from ..data.manifest import read_manifest
from ..runtime.files import write_lines
from ..runtime.pickles import peek, reason
from ..scoring.classification import METRICS
from . import classify, run


def find_folds(data: str, subset: str) -> List[str]:
    """The folders data/fold<number>, in the order of their numbers. Raises ValueError or
    FileNotFoundError if there are fewer than two, or one lacks the subset to test on."""
    pattern = os.path.join(glob.escape(data), "fold[0-9]*")
    folds = [path for path in glob.glob(pattern) if os.path.isdir(path)]
    if len(folds) < 2:
        raise ValueError(f"{data} has {len(folds)} folders fold1, .., wanted 2 or more")
    for path in folds:
        read_manifest(os.path.join(path, f"{subset}.tsv"))
        if re.search(r"[,={}\s]", path):
            raise ValueError(f"{path}: hydra cannot take this name in a list of folders")
    return sorted(folds, key=lambda path: [int(x) for x in re.findall(r"\d+", path[len(data) :])])


def trained_updates(folder: str) -> int:
    """Updates of the last checkpoint in a fold's folder; 0 if there is none."""
    path = os.path.join(folder, "checkpoint_last.pt")
    if not os.path.isfile(path):
        return 0
    try:
        return peek(path)["optimizer_history"][-1]["num_updates"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} cannot be gone on from: {reason(error)}") from None


def max_update(args: argparse.Namespace) -> int:
    """`optimization.max_update` of the recipe or the overrides; 0 if neither has it. Raises
    FileNotFoundError if there is no such recipe."""
    path = os.path.join(args.config_dir, f"{args.config_name}.yaml")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no recipe {path} (--config-dir, --config-name)")
    config = OmegaConf.load(path)
    given = OmegaConf.from_dotlist([override.lstrip("+") for override in args.overrides])
    for source in (given, config):
        value = source.get("optimization", {}).get("max_update")
        if value is not None:
            return int(value)
    return 0


def train(args: argparse.Namespace, folds: List[str], out: str) -> None:
    """One run of fairseq-hydra-train for all folds. Raises ValueError if it fails."""
    command = [os.path.join(os.path.dirname(sys.executable), "fairseq-hydra-train"), "--multirun"]
    command += ["--config-dir", args.config_dir, "--config-name", args.config_name]
    command += [f"task.data={','.join(folds)}", f"checkpoint.save_dir={out}/${{task.data}}"]
    # hydra's sweep changes into a folder for every fold: let it be this one, where relative
    # paths mean what was typed
    command += [f"hydra.sweep.dir={out}", f"hydra.sweep.subdir={os.path.relpath('.', out)}"]
    command += args.overrides
    print("$ " + " ".join(command), flush=True)
    if subprocess.run(command).returncode:
        raise ValueError("fairseq-hydra-train failed, see above")


def cross_validate(argv: Optional[List[str]]) -> None:
    parser = argparse.ArgumentParser(prog="varan-crossval", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", help="folder with fold1, fold2, .., each with its manifests")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fairseq's overrides")
    parser.add_argument("--config-dir", default="examples/", help="folder of the recipe")
    parser.add_argument("--config-name", required=True, help="the recipe")
    parser.add_argument("--subset", default="test", help="what is tested")
    parser.add_argument(
        "--checkpoint", default="checkpoint_best.pt", help="which checkpoint of each fold is tested"
    )
    parser.add_argument("--out", help="folder for it all; default: checkpoints/<recipe>")
    args = parser.parse_intermixed_args(argv)
    for override in args.overrides:
        if "=" not in override or override.startswith(("task.data=", "checkpoint.save_dir=")):
            raise ValueError(
                f"{override!r}: wanted key=value, and task.data and checkpoint.save_dir belong to "
                "the folds"
            )
    folds = find_folds(args.data.rstrip("/"), args.subset)
    out = (args.out or f"checkpoints/{args.config_name}").rstrip("/")
    wanted = max_update(args)
    unfinished = []
    for fold in folds:
        updates = trained_updates(os.path.join(out, fold.lstrip("/")))
        if 0 < wanted <= updates:
            print(f"{fold}: trained already, {updates} updates")
        else:
            unfinished.append(fold)
    if unfinished:
        train(args, unfinished, out)

    rows = []
    for fold in folds:
        folder = os.path.join(out, fold.lstrip("/"))
        results = os.path.join(folder, f"classify-{args.subset}")
        checkpoint = os.path.join(folder, args.checkpoint)
        classify.classify([checkpoint, fold, args.subset, "--out", results])
        with open(os.path.join(results, "scores.json"), encoding="utf-8") as file:
            rows.append({"fold": fold, **json.load(file)})
    print("\n| fold | utterances | " + " | ".join(f"{name} %" for name in METRICS) + " |")
    print("| --- " * (2 + len(METRICS)) + "|")
    for row in rows:
        cells = " | ".join(f"{row[name]:.2f}" for name in METRICS)
        print(f"| {row['fold']} | {row['utterances']} | {cells} |")
    mean = {name: statistics.mean(row[name] for row in rows) for name in METRICS}
    deviation = {name: statistics.stdev(row[name] for row in rows) for name in METRICS}
    cells = " | ".join(f"{mean[name]:.2f} ± {deviation[name]:.2f}" for name in METRICS)
    print(f"| mean ± standard deviation | {sum(row['utterances'] for row in rows)} | {cells} |")
    summary = {"folds": rows, "mean": mean, "standard_deviation": deviation}
    write_lines(os.path.join(out, "crossval.json"), [json.dumps(summary, indent=2)])
    print(f"{out}/crossval.json")


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-crossval", cross_validate, argv)


if __name__ == "__main__":
    sys.exit(main())
