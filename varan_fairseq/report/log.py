"""Curves of a training from fairseq's log, in its formats json and simple."""

import json
import re
from typing import Dict, List, Optional, Tuple

from ..runtime.files import printable
from .figures import Series

_KIND = re.compile(r"\b(train_inner|train|valid)\b")
_LONGEST = 100000  # characters of a line that a training writes
_PAIR = re.compile(r"([A-Za-z_]\w*)[= ]([-+\d.e]+)(?=[,| ]|$)")
# Panels of the page, and the numbers in them, by fairseq's names without "train_" and "valid_".
PANELS = (
    ("loss of training (bits)", "train_inner", ("loss", "expected_nll")),
    ("posterior (bits)", "train_inner", ("posterior_entropy", "divergence")),
    ("mean weight of each layer", "train_inner", (r"posterior_\d+",)),
    ("loss of each layer (bits)", "train_inner", (r"nll_\d+",)),
    ("validation (%)", "valid", ("wer", "uer", "accuracy", "unweighted_accuracy")),
)


def read_log(path: str) -> List[Tuple[str, Series]]:
    """Panels with curves of a log file; a resumed run continues, another run that starts over in the
    same file starts over. Raises ValueError if there are none, OSError if it cannot be read."""
    series: Dict[str, Series] = {"train_inner": {}, "valid": {}}
    last = -1.0
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            read = _numbers(line)
            if read is None or read[0] not in series:
                continue
            kind, numbers = read
            updates = numbers.get("num_updates")
            if updates is None:
                continue
            if kind == "train_inner":
                if updates <= last:
                    series = {"train_inner": {}, "valid": {}}
                last = updates
            for name, value in numbers.items():
                series[kind].setdefault(name, []).append((int(updates), value))
    panels = []
    for title, kind, patterns in PANELS:
        names = [n for p in patterns for n in sorted(series[kind]) if re.fullmatch(p, n)]
        if names:
            panels.append((title, {name: series[kind][name] for name in names}))
    if not panels:
        raise ValueError(f"{printable(path)} has no lines of a fairseq training")
    return panels


def _numbers(line: str) -> Optional[Tuple[str, Dict[str, float]]]:
    """(kind of the line, its numbers)."""
    match = _KIND.search(line) if len(line) <= _LONGEST else None
    if not match:
        return None
    kind, rest = match[1], line[match.end() :].rstrip()
    brace = rest.find("{")
    if brace >= 0 and rest.endswith("}"):
        try:
            pairs = list(json.loads(rest[brace:]).items())
        except (ValueError, RecursionError):
            return None
    elif "num_updates" in rest:
        pairs = _PAIR.findall(rest)
    else:
        return None
    numbers = {}
    for name, value in pairs:
        try:
            numbers[re.sub("^(train|valid)_", "", name)] = float(value)
        except (TypeError, ValueError):
            continue
    return kind, numbers
