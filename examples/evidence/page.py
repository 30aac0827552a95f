"""The tables of an experiment, from what its runs recorded."""

import itertools
import statistics
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from varan_fairseq.scoring.runs import Estimate, difference, mean_rate

RIVAL = "weighted_sum"  # whom every line is compared with
RIVALS = ("last_layer", "weighted_sum", "attentive", "hconv", "concat")


def lines(rows: Dict[str, Any]) -> Iterator[str]:
    """Markdown: for each way of fine-tuning a table of its aggregations, then what VARAN gains over
    each. rows: as run.py writes them; only cells with all seeds and folds are shown."""
    outcomes = Outcomes(rows)
    for way in outcomes.ways:
        yield from _way(outcomes, way)
        yield ""
        for split in rows["splits"]:
            yield from _by_condition(outcomes, way, split)
        yield from _tried(outcomes, way)
        yield ""
    if any("varan" in outcomes.methods(way) for way in outcomes.ways):
        yield from _gains(outcomes)
        yield ""
    yield from published(rows)


def published(rows: Dict[str, Any]) -> Iterator[str]:
    """What others report on the same test sets."""
    if rows["published"]:
        heads = " | ".join(f"{split} {_unit(rows)}" for split in rows["splits"])
        yield f"| published | {heads} |"
        yield "| --- " * (1 + len(rows["splits"])) + "|"
        for name, values in rows["published"].items():
            yield f"| {name} | " + " | ".join(str(value) for value in values) + " |"


class Outcomes:
    """Complete cells by (way, method): those with `seeds`, or more, in every fold."""

    def __init__(self, rows: Dict[str, Any]):
        self.rows = rows
        self.folds = sorted(rows["lengths"], key=int)
        tested: Dict[Tuple[str, str], Dict[int, Dict[int, Dict[str, Any]]]] = {}
        for run in sorted(rows["runs"], key=lambda run: run["seed"]):
            if run["chosen"]:
                cell = tested.setdefault((run["way"], run["method"]), {})
                cell.setdefault(run["seed"], {})[run["fold"]] = run
        self._cells = {}
        for cell in itertools.product(rows["ways"], rows["methods"]):
            whole = {
                seed: runs
                for seed, runs in tested.get(cell, {}).items()
                if len(runs) == len(self.folds)
            }
            if set(rows["seeds"]) <= set(whole):
                self._cells[cell] = whole
        self.ways = list(dict.fromkeys(way for way, _ in self._cells))

    def methods(self, way: str) -> List[str]:
        return [method for each, method in self._cells if each == way]

    def runs(self, way: str, method: str) -> List[Dict[str, Any]]:
        return [run for folds in self._cells[way, method].values() for run in folds.values()]

    def errors(self, way: str, method: str, split: str, reading: str) -> np.ndarray:
        """[seeds, utterances of all folds]."""
        return np.array(
            [
                [
                    int(count)
                    for fold in self.folds
                    for count in runs[int(fold)]["errors"][split][reading].split()
                ]
                for runs in self._cells[way, method].values()
            ]
        )

    def lengths(self, split: str) -> np.ndarray:
        counts = (self.rows["lengths"][fold][split].split() for fold in self.folds)
        return np.array([int(count) for each in counts for count in each])

    def conditions(self, split: str) -> np.ndarray:
        """Name of each utterance of all folds; empty if the data have no such file."""
        names = (self.rows["conditions"][fold].get(split, "") for fold in self.folds)
        return np.array([name for each in names for name in each.splitlines()])


def _unit(rows: Dict[str, Any]) -> str:
    return f"{rows['rate']} %"


def _rate(outcomes: Outcomes, estimate: Estimate) -> str:
    value, low, high = estimate.value, estimate.low, estimate.high
    if outcomes.rows["rate"] == "accuracy":
        value, low, high = 100 - value, 100 - high, 100 - low
    return f"{value:.2f} ({low:.2f} - {high:.2f})"


def _gain(outcomes: Outcomes, way: str, split: str, ours: Tuple[str, str], theirs: str) -> str:
    """Points fewer errors than `theirs`, with its interval; bold where that is beyond 0, and of two
    seeds or more of either."""
    errors = [
        outcomes.errors(way, ours[0], split, ours[1]),
        outcomes.errors(way, theirs, split, "as-trained"),
    ]
    gain = difference(*errors, outcomes.lengths(split))
    text = f"{gain.value:+.2f} ({gain.low:+.2f} - {gain.high:+.2f})"
    certain = min(map(len, errors)) > 1 and (gain.low > 0 or gain.high < 0)
    return f"**{text}**" if certain else text


def _way(outcomes: Outcomes, way: str) -> Iterator[str]:
    splits, methods = outcomes.rows["splits"], outcomes.methods(way)
    heads = [f"{split} {_unit(outcomes.rows)}, gain over {RIVAL}" for split in splits]
    heads = [part for head in heads for part in head.split(", ")]
    yield f"| {way} | {' | '.join(heads)} | valid | seeds | lr | beta | trained | s/update |"
    yield "| --- " * (7 + len(heads)) + "|"
    for method in methods:
        runs = outcomes.runs(way, method)
        readings = list(runs[0]["errors"][splits[0]])
        for reading in readings:
            cells = []
            for split in splits:
                errors = outcomes.errors(way, method, split, reading)
                cells.append(_rate(outcomes, mean_rate(errors, outcomes.lengths(split))))
                same = (method, reading) == (RIVAL, "as-trained") or RIVAL not in methods
                cells.append("" if same else _gain(outcomes, way, split, (method, reading), RIVAL))
            first = reading == readings[0]
            about = _about(runs) if first else [""] * 6
            name = method if first else f"{method}, {reading}"
            yield f"| {name} | " + " | ".join([*cells, *about]) + " |"


def _by_condition(outcomes: Outcomes, way: str, split: str) -> Iterator[str]:
    """Rates of the utterances of each condition, means over seeds."""
    conditions, lengths = outcomes.conditions(split), outcomes.lengths(split)
    names = np.unique(conditions)
    if not len(names):
        return
    yield f"| {way}: {split} {_unit(outcomes.rows)} | " + " | ".join(names) + " |"
    yield "| --- " * (1 + len(names)) + "|"
    for method in outcomes.methods(way):
        errors = outcomes.errors(way, method, split, "as-trained").mean(0)
        wrong = [100 * errors[conditions == name].sum() for name in names]
        rates = [each / lengths[conditions == name].sum() for each, name in zip(wrong, names)]
        if outcomes.rows["rate"] == "accuracy":
            rates = [100 - rate for rate in rates]
        yield f"| {method} | " + " | ".join(f"{rate:.2f}" for rate in rates) + " |"
    yield ""


def _tried(outcomes: Outcomes, way: str) -> Iterator[str]:
    """Scores on validation data of the first seed, mean over folds, by learning rate and beta; in bold
    what was chosen."""
    yield f"| {way}: tried with the first seed | valid |"
    yield "| --- | --- |"
    for method in outcomes.methods(way):
        trials: Dict[Tuple[float, Any], List[Dict[str, Any]]] = {}
        for run in outcomes.rows["runs"]:
            if (run["way"], run["method"], run["seed"]) == (way, method, outcomes.rows["seeds"][0]):
                trials.setdefault((run["lr"], run["beta"]), []).append(run)
        cells = []
        for (lr, beta), runs in trials.items():
            setting = f"lr {lr:g}" + ("" if beta is None else f", beta {beta:g}")
            text = f"{setting}: {statistics.mean(run['score'] for run in runs):.2f}"
            cells.append(f"**{text}**" if any(run["chosen"] for run in runs) else text)
        yield f"| {method} | " + "; ".join(cells) + " |"


def _about(runs: List[Dict[str, Any]]) -> List[str]:
    """Mean score on validation, settings chosen, size, time."""
    mean = statistics.mean
    return [
        f"{mean(run['score'] for run in runs):.2f}",
        str(len({run["seed"] for run in runs})),
        _values(f"{run['lr']:g}" for run in runs),
        _values("" if run["beta"] is None else f"{run['beta']:g}" for run in runs),
        f"{runs[0]['trained_parameters']:,}",
        f"{mean(run['seconds_per_update'] for run in runs):.2f}",
    ]


def _values(texts: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _gains(outcomes: Outcomes) -> Iterator[str]:
    for split in outcomes.rows["splits"]:
        ways = [way for way in outcomes.ways if "varan" in outcomes.methods(way)]
        others = [name for name in outcomes.rows["methods"] if name != "varan"]
        yield f"| {split}: points that varan gains over | " + " | ".join(ways) + " |"
        yield "| --- " * (1 + len(ways)) + "|"
        for other in others:
            cells = [_over(outcomes, way, split, "varan", other) for way in ways]
            if any(cells):
                yield f"| {other} | " + " | ".join(cells) + " |"


def summary(
    experiments: Dict[str, Dict[str, Any]], ours: str = "varan", others: Sequence[str] = RIVALS
) -> Iterator[str]:
    """Markdown: a line a way of fine-tuning of each experiment that has `ours`, a column another that
    some have: the points that `ours` gains over it, on the first split. experiments: rows by name."""
    others = [
        name for name in others if any(name in rows["methods"] for rows in experiments.values())
    ]
    yield f"| data, way | {ours} | " + " | ".join(f"over {name}" for name in others) + " |"
    yield "| --- " * (2 + len(others)) + "|"
    for name, rows in experiments.items():
        outcomes, split = Outcomes(rows), rows["splits"][0]
        for way in outcomes.ways:
            if ours in outcomes.methods(way):
                errors = outcomes.errors(way, ours, split, "as-trained")
                rate = _rate(outcomes, mean_rate(errors, outcomes.lengths(split)))
                gains = [_over(outcomes, way, split, ours, other) for other in others]
                cells = " | ".join([f"{_unit(rows)} {rate}", *gains])
                yield f"| {name}, {way} | {cells} |"


def _over(outcomes: Outcomes, way: str, split: str, ours: str, other: str) -> str:
    """The gain over another; nothing where that is not there."""
    if other not in outcomes.methods(way):
        return ""
    return _gain(outcomes, way, split, (ours, "as-trained"), other)
