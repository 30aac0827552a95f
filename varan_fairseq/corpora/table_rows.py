"""Rows of a table: CSV, TSV, JSON lines or a JSON list. Which of them a file is, its content says."""

import csv
import json
import os
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .columns import COLUMNS
from .options import refuse

Row = Dict[str, Any]

_DELIMITERS = "\t,;|"


def read_table(path: str, named: Iterable[str] = ()) -> List[Tuple[int, Row]]:
    """(number of the line, values by the names of columns) of every row.

    named: columns that a header may have beside those of `COLUMNS`. If they are numbers, the table
    has no header, and 1 is its first column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        refuse(f"{path} is not UTF-8: {error.reason} at byte {error.start}")
    start = text.lstrip()[:1]
    if start in ("{", "["):
        rows = _json_rows(path, text, start)
    else:
        rows = _delimited_rows(path, text, list(named))
    if not rows:
        refuse(f"{path} has no rows with named columns")
    return rows


def _json_rows(path: str, text: str, start: str) -> List[Tuple[int, Row]]:
    number = 1
    try:
        if start == "[":
            numbered = list(enumerate(json.loads(text), 1))
        else:
            numbered = []
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    numbered.append((number, json.loads(line)))
    except (json.JSONDecodeError, RecursionError) as error:
        refuse(f"{path}, line {number}: no JSON: {error}")
    for number, row in numbered:
        if not isinstance(row, dict):
            refuse(f"{path}, line {number}: {str(row)[:80]!r}, expected named values")
    return numbered


def _delimited_rows(path: str, text: str, named: List[str]) -> List[Tuple[int, Row]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    known = {name for names in COLUMNS.values() for name in names} | set(named)

    def fit(delimiter: str) -> Tuple[int, int]:
        fields = [field.strip().strip('"') for field in first.split(delimiter)]
        return len(known & set(fields)), len(fields)

    delimiter = max(_DELIMITERS, key=fit)
    # a TSV has no quotes: one that is not closed would swallow the lines behind it
    quotes: Any = csv.QUOTE_NONE if delimiter in "\t|" else csv.QUOTE_MINIMAL
    reader = csv.reader(text.splitlines(True), delimiter=delimiter, quoting=quotes, strict=True)
    rows: List[Tuple[int, Row]] = []
    header: Optional[List[str]] = None
    before = 0
    try:
        for fields in reader:
            number, before = before + 1, reader.line_num
            if not fields:
                continue
            if any("\n" in field or "\r" in field for field in fields):
                refuse(
                    f"{path}, line {number}: a field continues over lines: is a quote not closed?"
                )
            if header is None:
                by_number = all(name.isdecimal() for name in named) and bool(named)
                header = [str(n) for n in range(1, len(fields) + 1)]
                if not by_number:
                    header = [field.strip() for field in fields]
                    _check_header(path, header, known)
                    continue
            if len(fields) != len(header):
                refuse(
                    f"{path}, line {number}: {len(fields)} fields, expected {len(header)} "
                    f"({', '.join(header)}): {delimiter!r} inside of a field?"
                )
            rows.append((number, dict(zip(header, fields))))
    except csv.Error as error:
        refuse(f"{path}, line {before + 1}: no table between {delimiter!r}: {error}")
    return rows


def _check_header(path: str, header: Sequence[str], known: Iterable[str]) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        refuse(f"{path}: two columns are called {twice[0]!r}")
    folder = os.path.dirname(os.path.abspath(path))
    if set(header) & set(known):
        return
    audio = [n for n, name in enumerate(header, 1) if os.path.isfile(os.path.join(folder, name))]
    if audio:
        refuse(
            f"{path}, line 1: {header[audio[0] - 1]!r} is a file, expected names of columns: add a "
            f"line with them, or number them, as --columns audio={audio[0]} text="
            f"{2 if audio[0] == 1 else 1}"
        )
