"""Curves of a training from fairseq's log, in its formats json and simple."""

import json
import re
from typing import Dict, List, Optional, Tuple

from ..runtime.files import printable
from .figures import Series

# The name of who says a line: of hydra's log, and of fairseq's own.
_KIND = re.compile(r"\[([\w.-]+)\]\[INFO\] - |\| INFO \| ([\w.-]+) \|")
_SUBSET = r"(?: \(.*\))?"  # of a validation that is not called valid
_LONGEST = 100000  # characters of a line that a training writes
_PAIR = re.compile(r"([A-Za-z_]\w*)[= ]([-+\d.e]+)(?=[,| ]|$)")
# Panels of the page, and the numbers in them, by fairseq's names without "train_" and "valid_".
PANELS = (
    ("loss of training (bits)", "train_inner", ("loss", "expected_nll")),
    ("posterior (bits)", "train_inner", ("posterior_entropy", "divergence")),
    ("mean weight of each layer", "train_inner", (r"posterior_\d+",)),
    ("loss of each layer (bits)", "train_inner", (r"nll_\d+",)),
    (
        "validation (%)",
        "valid",
        tuple(name + _SUBSET for name in ("wer", "uer", "accuracy", "unweighted_accuracy")),
    ),
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
    """(kind of the line, its numbers). A validation's lines are said by its subset."""
    match = _KIND.search(line) if len(line) <= _LONGEST else None
    if not match or "num_updates" not in line:
        return None
    name, rest = match[1] or match[2], line[match.end() :].rstrip()
    kind = name if name in ("train", "train_inner") else "valid"
    brace = rest.find("{")
    if brace >= 0 and rest.endswith("}"):
        try:
            pairs = list(json.loads(rest[brace:]).items())
        except (ValueError, RecursionError):
            return None
    else:
        pairs = _PAIR.findall(rest)
    numbers = {}
    for key, value in pairs:
        key = key[len(name) + 1 :] if key.startswith(f"{name}_") else re.sub("^train_", "", key)
        if kind == "valid" and name != "valid" and key != "num_updates":
            key = f"{key} ({name})"
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            continue
    return kind, numbers
