"""What an experiment consists of: its preset, and which runs are still to be made.

A cell is a way of fine-tuning, an aggregation and a fold. Its first seed is trained with every
learning rate of the preset's list, then with every other beta; the best of these on validation data
is what its other seeds are trained with, and what is tested. An aggregation without a beta tries `more_lr`
instead: each has the same number of trials.
"""

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Overrides of each aggregation of the layers.
METHODS = {
    "last_layer": ["model.aggregation=last_layer"],
    "weighted_sum": ["model.aggregation=weighted_sum"],
    "attentive": ["model.aggregation=attentive"],
    "hconv": ["model.aggregation=hconv"],
    "concat": ["model.aggregation=concat"],
    "varan": ["model.aggregation=varan", "model.posterior=input"],
    "varan_static": ["model.aggregation=varan", "model.posterior=static"],
    "varan_prior": ["model.aggregation=varan", "model.posterior=prior"],
    "varan_uniform": [
        "model.aggregation=varan",
        "model.posterior=input",
        "criterion.prior=uniform",
    ],
    "varan_chi2": [
        "model.aggregation=varan",
        "model.posterior=input",
        "criterion.prior=chi2_reversed",
    ],
}
PRIORS = ("varan_uniform", "varan_chi2")  # only where they are named: `varan` has the default
USUAL = [name for name in METHODS if name not in PRIORS]
WITH_BETA = ("varan", "varan_static", *PRIORS)  # the others have no divergence
_MOST_CHARACTERS = 100000
PRESETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "presets")
_KEYS = {
    "kind": ("recognition", "classification"),
    "base": str,
    "overrides": list,
    "splits": list,
    "folds": int,
    "ways": dict,
    "beta": list,
    "seeds": list,
    "readings": list,
    "published": dict,
}
# Of the lists of a preset and its ways.
_OF_LISTS = {
    "splits": (str,),
    "seeds": (int,),
    "beta": (float, int),
    "lr": (float, int),
    "more_lr": (float, int),
}
_WAY = {"recipe": str, "overrides": list, "lr": list, "more_lr": list}


class Run(NamedTuple):
    """One training. fold: 0 where there are none."""

    way: str
    method: str
    fold: int
    lr: float
    beta: Optional[float]
    seed: int

    @property
    def name(self) -> str:
        fold = f"-fold{self.fold}" if self.fold else ""
        beta = "" if self.beta is None else f"-beta{self.beta:g}"
        return f"{self.way}-{self.method}{fold}-lr{self.lr:g}{beta}-seed{self.seed}"


class Job(NamedTuple):
    """test: decode the splits with what the run trained; else train it."""

    run: Run
    test: bool


def presets() -> List[str]:
    return sorted(name[:-5] for name in os.listdir(PRESETS) if name.endswith(".yaml"))


def load(name: str) -> Dict[str, Any]:
    """A preset, by name or by the path of a YAML, and its `least_seeds`. Raises ValueError naming a key
    that is missing, unknown or of another kind, FileNotFoundError without the file."""
    path = name if name.endswith(".yaml") else os.path.join(PRESETS, f"{name}.yaml")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no preset {path}; there are {', '.join(presets())}")
    with open(path, encoding="utf-8") as file:
        text = file.read(_MOST_CHARACTERS + 1)
    try:
        if len(text) > _MOST_CHARACTERS or any(map(_is_alias, yaml.parse(text))):
            raise ValueError(f"{path}: a long file or aliases (*name), expected a short plain YAML")
        preset = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    _check(path, preset, _KEYS)
    for way, options in preset["ways"].items():
        _check(f"{path}, way {way}", options, _WAY)
        wanted = len(preset["beta"]) - 1
        if len(options["more_lr"]) != wanted or not options["lr"]:
            raise ValueError(
                f"{path}: way {way} has {len(options['lr'])} lr and {len(options['more_lr'])} "
                f"more_lr, expected 1 or more and {wanted}: as many trials as there are further beta"
            )
    for key, kinds in _OF_LISTS.items():
        lists = [preset[key]] if key in preset else [way[key] for way in preset["ways"].values()]
        for value in [value for each in lists for value in each]:
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{path}: {key} has {value!r}, expected {kinds[0].__name__}")
    if not preset["seeds"] or not preset["splits"] or not preset["beta"]:
        raise ValueError(f"{path}: seeds, splits and beta need one value or more")
    return {**preset, "least_seeds": preset["seeds"]}


def _is_alias(event: Any) -> bool:
    """Of which a few lines make a structure that no memory holds."""
    return isinstance(event, yaml.AliasEvent)


def _check(where: str, found: Any, keys: Dict[str, Any]) -> None:
    if not isinstance(found, dict) or set(found) != set(keys):
        raise ValueError(f"{where}: has {sorted(found or [])}, expected {sorted(keys)}")
    for key, kind in keys.items():
        good = found[key] in kind if isinstance(kind, tuple) else isinstance(found[key], kind)
        if not good:
            raise ValueError(f"{where}: {key} is {found[key]!r}, expected {kind}")


def rate(preset: Dict[str, Any]) -> str:
    """What is counted: accuracy, or UER where that chooses the checkpoints, else WER."""
    if preset["kind"] == "classification":
        return "accuracy"
    return "UER" if "checkpoint.best_checkpoint_metric=uer" in preset["overrides"] else "WER"


def folds(preset: Dict[str, Any]) -> Sequence[int]:
    """Their numbers; 0 alone where there are none."""
    return range(1, preset["folds"] + 1) or [0]


def least_seeds(own: List[int], asked: List[int]) -> List[int]:
    """Those without which a cell is not shown: of the seeds asked for the first, which settings are chosen
    with, and those that are the preset's own, so that some cells may have more than others."""
    return [seed for seed in asked if seed == asked[0] or seed in own]


def cells(preset: Dict[str, Any], ways: List[str], methods: List[str]) -> Iterator[tuple]:
    """(way, method, fold) of all. The methods of a way follow each other."""
    for way in ways:
        for method in methods:
            for fold in folds(preset):
                yield way, method, fold


def chosen(preset: Dict[str, Any], cell: tuple, scores: Dict[Run, float]) -> Optional[Run]:
    """The best trial of a cell, None as long as one is missing. scores: of validation, the higher
    the better."""
    trials = _trials(preset, cell, scores)
    return max(trials, key=scores.get) if all(run in scores for run in trials) else None


def jobs(preset: Dict[str, Any], cell: tuple, scores: Dict[Run, float], tested: set) -> List[Job]:
    """What a cell still needs and can begin with. tested: runs whose splits are decoded."""
    best = chosen(preset, cell, scores)
    if best is None:
        return [Job(run, False) for run in _trials(preset, cell, scores) if run not in scores]
    runs = [best._replace(seed=seed) for seed in preset["seeds"]]
    return [Job(run, run in scores) for run in runs if run not in tested]


def count(preset: Dict[str, Any], cell: tuple) -> int:
    """Jobs of a cell in all."""
    way = preset["ways"][cell[0]]
    return len(way["lr"]) + len(way["more_lr"]) + 2 * len(preset["seeds"]) - 1


def _trials(preset: Dict[str, Any], cell: tuple, scores: Dict[Run, float]) -> List[Run]:
    """Those of a cell; betas come when all learning rates have a score."""
    way, method, fold = cell
    options, seed = preset["ways"][way], preset["seeds"][0]
    if method not in WITH_BETA:
        rates = [*options["lr"], *options["more_lr"]]
        return [Run(way, method, fold, lr, None, seed) for lr in rates]
    runs = [Run(way, method, fold, lr, preset["beta"][0], seed) for lr in options["lr"]]
    if all(run in scores for run in runs):
        best = max(runs, key=scores.get)
        runs += [best._replace(beta=beta) for beta in preset["beta"][1:]]
    return runs
