"""Files of numbers: one or several per utterance, in the manifest's order."""

import os
from typing import TYPE_CHECKING, Sequence

import numpy as np

from .labels import read_class_dictionary
from .manifest import DataError, check_rows, read_lines

if TYPE_CHECKING:
    from fairseq.data import Dictionary

_MOST = 6e4  # of a value: half precision ends at 65504


def read_value_dictionary(path: str) -> "Dictionary":
    """Reads `dict.{labels}.txt`: a line `name count` for each number. Raises FileNotFoundError, or
    ValueError naming the line."""
    return read_class_dictionary(path, least=1)


def are_values(lines: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the label file of a dictionary holds numbers, which its names are not."""
    first = next((line.split() for line in lines if line.split()), [])
    return bool(first) and all(map(_is_number, first)) and not any(map(_is_number, names))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_values(path: str, dictionary: "Dictionary", count: int) -> np.ndarray:
    """Numbers [count, D] float64 from `{split}.{labels}`. count: entries of the manifest it belongs to.

    Raises FileNotFoundError, or ValueError that names the line.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no label file {path}")
    names, rows = dictionary.symbols, []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = [float(field) for field in line.split()]
        except ValueError:
            row = []
        if len(row) != len(names) or not all(abs(value) <= _MOST for value in row):
            what = f"{line.strip()!r}, expected {len(names)} numbers up to {_MOST:g}"
            raise DataError(path, number, what, f"one for {', '.join(names)}")
        rows.append(row)
    check_rows(path, len(rows), count, "expected one line per file")
    return np.array(rows)
