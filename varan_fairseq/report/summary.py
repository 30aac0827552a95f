"""What a model did on a split, whatever its kind: what the page shows."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..scoring.rates import Interval, interval

Pairs = Sequence[Tuple[str, str]]
_MOST = 24  # groups of names in a figure


@dataclass(frozen=True)
class Mistake:
    """row: of the split. text: about it. pairs: of what was said and what was heard."""

    row: int
    text: str
    pairs: Pairs


@dataclass(frozen=True)
class Heard:
    """Of N utterances. errors, lengths: [N], of words; of a classifier 0 or 1, of 1. confidence: [N],
    0 .. 1. layers: [N], the one that an utterance was read from, 1 .. L, or 0 for several. said,
    heard: texts, or classes. speakers: of each, if they are known."""

    errors: np.ndarray
    lengths: np.ndarray
    confidence: np.ndarray
    layers: np.ndarray
    said: Sequence[str]
    heard: Sequence[str]
    speakers: Optional[Sequence[str]]


@dataclass(frozen=True)
class SplitSummary:
    """Of N utterances. measure: name of what is measured, in percent. value, interval: of the
    model as it reads its layers. of_speakers: (number of speakers, interval over them), if they
    are known. rates: of each layer alone [L]. posterior: q(l|x) [N, L]. seconds: [N]. groups: of
    utterances, by title: see `groups_of_length`. facts: names and values of a table. mistakes: the
    worst first. heard: every utterance. confused: (said, heard, times) of words, the most frequent first.
    confusion: counts of a classifier [C, C]. classes: their names."""

    measure: str
    value: float
    interval: Interval
    of_speakers: Optional[Tuple[int, Interval]]
    rates: List[float]
    posterior: np.ndarray
    seconds: np.ndarray
    groups: Dict[str, Dict[str, Any]]
    facts: List[Tuple[str, str]]
    mistakes: List[Mistake]
    heard: Heard
    confused: Sequence[Tuple[str, str, int]] = ()
    confusion: Optional[np.ndarray] = None
    classes: Sequence[str] = ()


def movement(posterior: np.ndarray, prior: np.ndarray) -> Tuple[float, float]:
    """How far q(l|x) [N, L] moves between utterances, and its mean from the prior [L]: shares of the
    weight, 0 .. 1 (total variation; of the utterances the mean)."""
    mean = posterior.mean(0)
    between = np.abs(posterior - mean).sum(1).mean() / 2
    return float(between), float(np.abs(mean - prior).sum() / 2)


def differ(summary: SplitSummary, grouped: Dict[str, Any], least: float = 0.02) -> bool:
    """Whether groups of utterances weigh the layers differently, by that share of the weight."""
    labels, mean = grouped["labels"], summary.posterior.mean(0)
    return any(
        np.abs(summary.posterior[labels == group].mean(0) - mean).sum() / 2 > least
        for group in set(labels.tolist())
    )


def rates_of_groups(
    summary: SplitSummary, grouped: Dict[str, Any]
) -> List[Tuple[str, float, Interval]]:
    """(name, rate in percent, its 95% interval) of each group of utterances."""
    found = []
    for group, name in enumerate(grouped["classes"]):
        inside = grouped["labels"] == group
        lengths = summary.heard.lengths[inside]
        if not lengths.sum():
            continue
        wrong = summary.heard.errors[inside]
        counted = wrong if summary.measure == "WER" else lengths - wrong
        value = 100 * float(counted.sum() / lengths.sum())
        found.append((f"{name} ({inside.sum()})", value, interval(counted, lengths)))
    return found


def aggregated(cfg: Any) -> List[str]:
    """How a model reads its layers, in words of its options."""
    return [cfg.aggregation, cfg.combine] if cfg.aggregation == "varan" else [cfg.aggregation]


def groups_of_length(seconds: np.ndarray, count: int = 4) -> Dict[str, Any]:
    """labels: which of `count` groups of about the same size each utterance is in, [N]; classes:
    their names."""
    edges = np.quantile(seconds, np.linspace(0, 1, count + 1))
    labels = np.clip(np.searchsorted(edges, seconds, side="left") - 1, 0, count - 1)
    names = [f"{low:.1f} - {high:.1f} s" for low, high in zip(edges, edges[1:])]
    return {"labels": labels, "classes": names}


def groups_of_names(names: Sequence[str], most: int = _MOST) -> Dict[str, Any]:
    """The same of names, such as speakers; those with the most utterances, the others as one."""
    known, index, counts = np.unique(np.asarray(names), return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    place = np.full(len(known), len(kept))
    place[kept] = np.arange(len(kept))
    others = ["others"] if len(known) > most else []
    return {"labels": place[index], "classes": [*known[kept].tolist(), *others]}


def common_groups(seconds: np.ndarray, speakers: Optional[Sequence[str]]) -> Dict[str, Any]:
    """`SplitSummary.groups` of any model."""
    groups = {"By length": groups_of_length(seconds)}
    if speakers is not None:
        groups["By speaker"] = groups_of_names(speakers)
    return groups
