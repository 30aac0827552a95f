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
from ..runtime.files import read_json, write_lines
from ..runtime.pickles import peek, reason
from ..runtime.training import BIN, max_update
from ..scoring.classification import METRICS
from .scores import CLASSIFIER
from .utterances import Scores, score_split

_SETTINGS = "settings.json"  # in a fold's folder, written before it is trained
# Options that do not change what a finished training is.
_FREE = (
    *("optimization.max_update", "optimization.max_epoch", "dataset.num_workers", "hydra."),
    *("common.user_dir", "common.log_", "common.tensorboard_logdir", "common.wandb_project"),
)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises ValueError for what is not an override, or belongs to the folds."""
    for override in overrides:
        if "=" not in override or override.startswith(("task.data=", "checkpoint.save_dir=")):
            raise ValueError(
                f"{override!r}: expected key=value, and task.data and checkpoint.save_dir belong to "
                "the folds"
            )


def find_folds(data: str, subset: str) -> List[str]:
    """The folders data/fold<number>, in the order of their numbers. Raises ValueError or
    FileNotFoundError if there are fewer than two, or one lacks the subset to test on."""
    pattern = os.path.join(glob.escape(data), "fold[0-9]*")
    folds = [path for path in glob.glob(pattern) if os.path.isdir(path)]
    if len(folds) < 2:
        raise ValueError(f"{data} has {len(folds)} folders fold1, .., expected 2 or more")
    for path in folds:
        read_manifest(os.path.join(path, f"{subset}.tsv"))
        if re.search(r"[,={}\s]", path):
            raise ValueError(f"{path}: hydra cannot take this name in a list of folders")
    return sorted(folds, key=lambda path: [int(x) for x in re.findall(r"\d+", path[len(data) :])])


def training_settings(
    fold: str, config_dir: str, config_name: str, overrides: Sequence[str]
) -> Dict[str, Any]:
    """What a fold's training is of, to be compared before it continues: data, recipe, overrides.
    Options that may change between two calls (how long, how fast, what is logged) are none of
    it. Raises FileNotFoundError if there is no such recipe."""
    recipe: Any = OmegaConf.to_container(_recipe(config_dir, config_name))
    recipe.pop("hydra", None)
    given = dict(override.lstrip("+").split("=", 1) for override in overrides)
    for key in [key for key in given if key.startswith(_FREE)]:
        del given[key]
    for section, values in recipe.items():
        for key in [key for key in values or {} if f"{section}.{key}".startswith(_FREE)]:
            del values[key]
    return {"data": os.path.abspath(fold), "recipe": recipe, "overrides": given}


def trained_updates(folder: str, settings: Dict[str, Any]) -> int:
    """Updates of the last checkpoint in a fold's folder; 0 if there is none. Raises ValueError if
    it was trained with other settings, by `training_settings`, or nobody knows which."""
    path = os.path.join(folder, "checkpoint_last.pt")
    if not os.path.isfile(path):
        return 0
    before = read_json(os.path.join(folder, _SETTINGS))
    if before != settings:
        what = "no record of its settings"
        if isinstance(before, dict):
            differ = [key for key in settings if before.get(key) != settings[key]]
            what = "; ".join(f"{key} {before.get(key)}" for key in differ if key != "recipe")
            what = f"other settings ({what or 'the recipe has changed'})"
        raise ValueError(f"{path} was trained with {what}: give another --out")
    try:
        return peek(path)["optimizer_history"][-1]["num_updates"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} cannot be resumed from: {reason(error)}") from None


def planned_updates(config_dir: str, config_name: str, overrides: Sequence[str]) -> int:
    """`optimization.max_update` of the recipe or the overrides; 0 if neither has it. Raises
    FileNotFoundError if there is no such recipe."""
    return max_update(_recipe(config_dir, config_name), overrides)


def _recipe(config_dir: str, config_name: str) -> Any:
    path = os.path.join(config_dir, f"{config_name}.yaml")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no recipe {path} (--config-dir, --config-name)")
    return OmegaConf.load(path)


def train_fold(
    fold: str,
    config_dir: str,
    config_name: str,
    overrides: Sequence[str],
    out: str,
    settings: Dict[str, Any],
) -> None:
    """One run of fairseq-hydra-train. Raises ValueError if it fails."""
    folder = fold_folder(out, fold)
    os.makedirs(folder, exist_ok=True)
    write_lines(os.path.join(folder, _SETTINGS), [json.dumps(settings, indent=1)])
    command = [os.path.join(BIN, "fairseq-hydra-train")]
    command += ["--config-dir", config_dir, "--config-name", config_name]
    command += [f"task.data={fold}", f"checkpoint.save_dir={folder}"]
    command += ["hydra.run.dir=."]  # where relative paths mean what was typed
    command += overrides
    print("$ " + " ".join(command), flush=True)
    if subprocess.run(command).returncode:
        raise ValueError("fairseq-hydra-train failed, see above")


def fold_folder(out: str, fold: str) -> str:
    """Where a fold's checkpoints and results lie."""
    return os.path.join(out, os.path.basename(os.path.normpath(fold)))


def test_fold(out: str, fold: str, checkpoint: str, subset: str) -> Scores:
    """Classifies a fold's subset with its checkpoint of that name."""
    folder = fold_folder(out, fold)
    results = os.path.join(folder, f"classify-{subset}")
    return score_split(CLASSIFIER, os.path.join(folder, checkpoint), fold, subset, out=results)


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
