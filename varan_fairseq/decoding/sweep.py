"""Weights of a language model, chosen on a development split and then frozen."""

import itertools
import math
import os
from typing import Any, Dict, List, Sequence, Tuple

from ..data.findings import Split
from ..finetuned.labelled import References
from .results import rates
from .search import WEIGHTS, Hypothesis, plain


def weight_grid(overrides: Sequence[str]) -> Tuple[List[str], List[Dict[str, float]]]:
    """Splits overrides as `decoding.lmweight=1,2,3` into what a single run has and the settings
    to try: (overrides with the first value of each, combinations of all values).

    Raises ValueError for several values of options that are not weights, or for none at all.
    """
    single, values = [], {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+").rpartition(".")[2] if "decoding." in key else None
        if name not in WEIGHTS:
            if key.startswith("decoding.") and "," in value:
                raise ValueError(
                    f"{override}: several values are for {', '.join(WEIGHTS)}, of which --sweep "
                    "chooses"
                )
            single.append(override)
            continue
        try:
            values[name] = [float(number) for number in value.split(",")]
        except ValueError:
            raise ValueError(f"{override}: expected numbers between commas") from None
        if any(number != number or number == math.inf for number in values[name]):
            raise ValueError(f"{override}: expected numbers, not nan or inf")
        single.append(f"{key}={values[name][0]:g}")
    settings = [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]
    if len(settings) < 2:
        raise ValueError(
            "--sweep has nothing to choose from: give several values, as "
            "decoding.lmweight=0.5,1,2 decoding.wordscore=-1,0,1"
        )
    return single, settings


def refuse_values(overrides: Sequence[str]) -> None:
    """Raises ValueError for several values of a weight where nothing chooses."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.rpartition(".")[2] in WEIGHTS and "," in value:
            raise ValueError(f"{override}: give --sweep SUBSET to choose from several values")


def check_split(dev: str, subsets: Sequence[str], decoding: Any) -> None:
    """Raises ValueError for a sweep that would be no measurement, or has nothing to weigh."""
    if dev in subsets:
        raise ValueError(
            f"--sweep {dev}: weights that were chosen on a split say nothing about it; "
            f"dataset.gen_subset={','.join(subsets)} must be others"
        )
    if plain(decoding.type) == "viterbi":
        raise ValueError(
            "--sweep is for decoding.type=kenlm or fairseqlm: the best path has no weights"
        )


def check_apart(dev: Split, other: Split) -> None:
    """Raises ValueError if a split to choose on has recordings of one that is then scored, under
    whatever name. Both: read."""
    ours, theirs = (
        {
            os.path.realpath(os.path.join(each.manifest.root, name))
            for name, _ in each.manifest.entries
        }
        for each in (dev, other)
    )
    shared = len(ours & theirs)
    if shared:
        raise ValueError(
            f"--sweep {dev.name}: {shared} of its recordings are in {other.name} too, and weights "
            "that were chosen on them say nothing about it"
        )


def choose(
    references: References,
    settings: Sequence[Dict[str, float]],
    results: Sequence[Sequence[Sequence[Hypothesis]]],
) -> Tuple[int, List[Dict[str, Any]]]:
    """(index of the setting with the lowest WER, of several that with the lowest UER, then the
    first; a row of WER and UER a setting). results: hypotheses of each setting, the best first."""
    rows = []
    for setting, hypotheses in zip(settings, results):
        wer, uer = rates(references, [ranked[0] for ranked in hypotheses])
        rows.append({**setting, "wer": wer, "uer": uer})
    order = [(row["wer"], row["uer"] if math.isfinite(row["uer"]) else 0.0) for row in rows]
    return order.index(min(order)), rows


def table(rows: Sequence[Dict[str, Any]]) -> List[str]:
    """Lines of a TSV."""
    names = list(rows[0])
    return ["\t".join(names), *("\t".join(f"{row[name]:g}" for name in names) for row in rows)]


def at_the_edge(best: Dict[str, Any], rows: Sequence[Dict[str, Any]]) -> List[str]:
    """Weights of which the least or the greatest of three or more tried values is better than
    all others. best: one of rows, as `choose` returns them."""
    edges = []
    equal = [row for row in rows if (row["wer"], row["uer"]) == (best["wer"], best["uer"])]
    for name in set(best) & set(WEIGHTS):
        tried = sorted({row[name] for row in rows})
        if len(tried) > 2 and all(row[name] in (tried[0], tried[-1]) for row in equal):
            edges.append(f"{name}={best[name]:g}")
    return sorted(edges)
