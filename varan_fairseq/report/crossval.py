"""Training and testing of every fold of a corpus: what `varan-crossval` does."""

import glob
import json
import os
import re
import statistics
import subprocess
from typing import Any, Dict, List, Sequence

from omegaconf import OmegaConf

from ..data.manifest import read_manifest
from ..runtime.files import write_lines
from ..runtime.pickles import peek, reason
from ..runtime.training import BIN, max_update
from ..scoring.classification import METRICS
from .scores import Scores, classify_split


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises ValueError for what is no override, or belongs to the folds."""
    for override in overrides:
        if "=" not in override or override.startswith(("task.data=", "checkpoint.save_dir=")):
            raise ValueError(
                f"{override!r}: wanted key=value, and task.data and checkpoint.save_dir belong to "
                "the folds"
            )


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


def planned_updates(config_dir: str, config_name: str, overrides: Sequence[str]) -> int:
    """`optimization.max_update` of the recipe or the overrides; 0 if neither has it. Raises
    FileNotFoundError if there is no such recipe."""
    path = os.path.join(config_dir, f"{config_name}.yaml")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no recipe {path} (--config-dir, --config-name)")
    return max_update(OmegaConf.load(path), overrides)


def train_folds(
    folds: Sequence[str], config_dir: str, config_name: str, overrides: Sequence[str], out: str
) -> None:
    """One run of fairseq-hydra-train for all folds. Raises ValueError if it fails."""
    command = [os.path.join(BIN, "fairseq-hydra-train"), "--multirun"]
    command += ["--config-dir", config_dir, "--config-name", config_name]
    command += [f"task.data={','.join(folds)}", f"checkpoint.save_dir={out}/${{task.data}}"]
    # hydra's sweep changes into a folder for every fold: let it be this one, where relative
    # paths mean what was typed
    command += [f"hydra.sweep.dir={out}", f"hydra.sweep.subdir={os.path.relpath('.', out)}"]
    command += overrides
    print("$ " + " ".join(command), flush=True)
    if subprocess.run(command).returncode:
        raise ValueError("fairseq-hydra-train failed, see above")


def fold_folder(out: str, fold: str) -> str:
    """Where a fold's checkpoints and results lie."""
    return os.path.join(out, fold.lstrip("/"))


def test_fold(out: str, fold: str, checkpoint: str, subset: str) -> Scores:
    """Classifies a fold's subset with its checkpoint of that name."""
    folder = fold_folder(out, fold)
    results = os.path.join(folder, f"classify-{subset}")
    return classify_split(os.path.join(folder, checkpoint), fold, subset, out=results)


def summarise(rows: Sequence[Dict[str, Any]], out: str) -> Dict[str, Any]:
    """Mean and standard deviation of the metrics, written to crossval.json. rows: of each fold, the
    content of scores.json."""
    summary = {
        "folds": list(rows),
        "mean": {name: statistics.mean(row[name] for row in rows) for name in METRICS},
        "standard_deviation": {
            name: statistics.stdev(row[name] for row in rows) for name in METRICS
        },
    }
    write_lines(os.path.join(out, "crossval.json"), [json.dumps(summary, indent=2)])
    return summary
