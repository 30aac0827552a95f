"""Names of weights from one library to another, by a table that reads in both directions."""

import re
from typing import Dict, Iterable, List, Optional, Pattern, Sequence, Tuple

Table = Sequence[Tuple[str, str]]


class Names:
    """table: pairs (theirs, ours); every `{}` stands for one part of a name between two dots (or
    for what a pattern has beside it), in the same order on both sides."""

    def __init__(self, table: Table):
        self._to_ours = [(_pattern(theirs), ours) for theirs, ours in table]
        self._to_theirs = [(_pattern(ours), theirs) for theirs, ours in table]

    def ours(self, name: str) -> Optional[str]:
        """None for a name that is not in the table."""
        return _first(self._to_ours, name)

    def theirs(self, name: str) -> Optional[str]:
        """None for a name that is not in the table."""
        return _first(self._to_theirs, name)


def _pattern(template: str) -> Pattern:
    parts = [re.escape(part) for part in template.split("{}")]
    return re.compile("([^.]+?)".join(parts))


def _first(rules: List[Tuple[Pattern, str]], name: str) -> Optional[str]:
    for pattern, template in rules:
        match = pattern.fullmatch(name)
        if match:
            return template.format(*match.groups())
    return None


def weight_normed(theirs: str, ours: str) -> List[Tuple[str, str]]:
    """Rows of a table for a layer with weight norm, whose weights have other names since torch has
    parametrizations; fairseq keeps the older ones."""
    return [
        (f"{theirs}.bias", f"{ours}.bias"),
        (f"{theirs}.weight_g", f"{ours}.weight_g"),
        (f"{theirs}.weight_v", f"{ours}.weight_v"),
        (f"{theirs}.parametrizations.weight.original0", f"{ours}.weight_g"),
        (f"{theirs}.parametrizations.weight.original1", f"{ours}.weight_v"),
    ]


def without_prefix(names: Iterable[str], prefix: str) -> Dict[str, str]:
    """name -> the name without the prefix of the encoder, if any of them has it. A name outside of
    the prefix stays as it is."""
    names = list(names)
    if not any(name.startswith(prefix) for name in names):
        return {name: name for name in names}
    return {name: name[len(prefix) :] if name.startswith(prefix) else name for name in names}
