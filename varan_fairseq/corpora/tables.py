"""Recordings and transcripts of tables: CSV, TSV, JSON lines, a JSON list.

Nothing of a table is passed over in silence: a row that
does not fit its header, or a column that would change what is trained on, ends the script.
"""

import math
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from ..data.labels import speaker_name
from .columns import COLUMNS
from .labelled import Recording
from .options import refuse
from .table_rows import Row, read_table

SPLITS = ("train", "valid", "test")
_VALUES = "numbers of a row"  # what `from_table` calls them together
# Columns that would change the audio or the choice of rows, if we knew what they mean.
_TIMES = re.compile(r"start|begin|offset|onset|end\b|end_|stop|dur|channel|from$|to$", re.I)
_CHOICE = re.compile(r"lang|locale|is_?final|partial|valid|invalid|reject|discard|skip", re.I)
_SIDES = {"a": 0, "b": 1, "left": 0, "right": 1, "l": 0, "r": 1}


def find_columns(
    path: str,
    rows: Sequence[Tuple[int, Row]],
    given: Mapping[str, str],
    ignored: Sequence[str] = (),
) -> Dict[str, Optional[str]]:
    """Name of the column of each of `COLUMNS`, None for those that a table lacks. given: by the
    user. ignored: columns that need not be understood."""
    present = list(dict.fromkeys(name for _, row in rows for name in row))
    columns: Dict[str, Optional[str]] = {}
    for what, names in COLUMNS.items():
        names = (given[what],) if what in given else names
        there = [name for name in names if name in present and name not in ignored]
        columns[what] = there[0] if there else None
        if not there and (what in given or what in ("audio", "text")):
            refuse(
                f"{path} has no column {' or '.join(names)}, it has {', '.join(map(str, present))}: "
                f"name it by --columns {what}=NAME"
            )
        for number, row in rows:
            values = {str(row[name]) for name in there if row.get(name) not in (None, "")}
            if len(values) > 1:
                refuse(
                    f"{path}, line {number}: {' and '.join(there)} differ: choose by "
                    f"--columns {what}=NAME"
                )
    used = {name for names in COLUMNS.values() for name in names} | set(columns.values())
    for name in present:
        if name not in used and name not in ignored:
            _refuse_unused(path, name, rows)
    return columns


def _refuse_unused(path: str, name: str, rows: Sequence[Tuple[int, Row]]) -> None:
    """A column that would change what a row means."""
    time, choice = _TIMES.match(name), _CHOICE.match(name)
    if not (time or choice):
        return
    values = {str(row.get(name, "")) for _, row in rows}
    harmless = {"", "None", "0", "0.0"} if time else values
    if len(values) < 2 and values <= harmless:
        return
    shown = ", ".join(map(repr, sorted(values)[:3]))
    what = "a time or a channel" if time else "a reason to leave rows out"
    refuse(
        f"{path} has a column {name!r} ({shown}) that is not read and looks like {what}: name it "
        f"by --columns, or pass --ignore {name}"
    )


def from_table(
    path: str,
    given: Mapping[str, str],
    ignored: Sequence[str] = (),
    values: Sequence[str] = (),
) -> Iterator[Tuple[Recording, Optional[str]]]:
    """(recording, split or None) of every row. given, ignored: see `find_columns`. values: columns of
    numbers, which are the labels instead of the text."""
    rows = read_table(path, [*given.values(), *values])
    if values:
        rows = [(number, _with_values(path, number, row, values)) for number, row in rows]
        given, ignored = {**given, "text": _VALUES}, [*ignored, *values]
    columns = find_columns(path, rows, given, ignored)
    folder = os.path.dirname(os.path.abspath(path))
    channels = _channels(path, rows, columns["channel"])
    for (number, row), channel in zip(rows, channels):

        def stop(what: str, number: int = number) -> NoReturn:
            refuse(f"{path}, line {number}: {what}")

        value = {what: row.get(name) if name else None for what, name in columns.items()}
        audio, text, split = value["audio"], value["text"], value["split"] or None
        if not audio or text is None:
            stop(f"expected an audio file and a text, got {row}")
        if not isinstance(audio, str) or isinstance(text, (dict, list, bool)):
            stop(f"audio {str(audio)[:80]!r}, text {str(text)[:80]!r}, expected a path and a text")
        if split == "dev":
            split = "valid"
        if split is not None and split not in SPLITS:
            stop(f"split {split!r}, expected one of {', '.join(SPLITS)}")
        speaker = None if value["speaker"] is None else speaker_name(str(value["speaker"])) or None
        start, end = _span(value, stop)
        name = os.path.splitext(audio)[0]
        if value["start"] not in (None, "") or value["end"] not in (None, ""):
            name += part_name(start, end)
        yield (
            recording(os.path.join(folder, audio), name, str(text), speaker, start, end, channel),
            split,
        )


def _with_values(path: str, number: int, row: Row, values: Sequence[str]) -> Row:
    """A row with its numbers as a text."""
    for name in values:
        if name not in row:
            refuse(f"{path}, line {number}: no column {name}, it has {', '.join(row)}")
        try:
            finite = math.isfinite(float(row[name]))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            refuse(f"{path}, line {number}: {name} is {row[name]!r}, expected a number")
    return {**row, _VALUES: " ".join(f"{float(row[name]):.10g}" for name in values)}


def _span(value: Row, stop: Any) -> Tuple[float, Optional[float]]:
    """Seconds at which a row begins and ends; no end for all of the rest."""
    times: Dict[str, Optional[float]] = {}
    for what in ("start", "end", "duration"):
        times[what] = None
        if value[what] in (None, ""):
            continue
        try:
            times[what] = float(value[what])
        except (TypeError, ValueError):
            stop(f"{what} {value[what]!r}, expected seconds")
        if not 0 <= times[what] < math.inf:  # type: ignore[operator]
            stop(f"{what} {value[what]!r}, expected seconds")
    start, end, duration = times["start"] or 0.0, times["end"], times["duration"]
    if duration is not None:
        if end is not None and abs(start + duration - end) > 0.05:
            stop(f"start {start:g} and duration {duration:g} s do not make end {end:g} s")
        end = start + duration if end is None else end
    if end is not None and end <= start:
        stop(f"ends at {end:g} s, and begins at {start:g} s")
    return start, end


def _channels(
    path: str, rows: Sequence[Tuple[int, Row]], column: Optional[str]
) -> List[Optional[int]]:
    """Of every row, counted from 0. Numbers begin with 0 or 1, as the whole table says."""
    values = [str(row.get(column, "") if column else "").strip().lower() for _, row in rows]
    values = ["" if value == "none" else value for value in values]
    numbers = {int(value) for value in values if value.isdecimal()}
    for (number, _), value in zip(rows, values):
        if value and value not in _SIDES and not value.isdecimal():
            refuse(f"{path}, line {number}: channel {value!r}, expected a number, or A and B")
    if numbers == {1}:
        refuse(
            f"{path}: every channel is 1, which may be the first or the second: write A or B, or "
            f"pass --ignore {column}"
        )
    first = 0 if 0 in numbers else 1
    return [
        _SIDES[value] if value in _SIDES else int(value) - first if value else None
        for value in values
    ]


def part_name(start: float, end: Optional[float]) -> str:
    """What the name of a part of a recording ends in: its times in ms."""
    return f"_{round(1000 * start):08d}" + ("" if end is None else f"_{round(1000 * end):08d}")


def recording(
    audio: str,
    name: str,
    text: str,
    speaker: Optional[str],
    start: float = 0.0,
    end: Optional[float] = None,
    channel: Optional[int] = None,
) -> Recording:
    """name: that its copy is called after, without an ending."""
    stem = os.path.normpath(name).lstrip(os.sep).replace("..", "_")
    stem += "" if channel is None else f"_channel{channel}"
    return Recording(audio, stem + ".wav", text, speaker, start, end, channel)


def by_split(
    path: str, rows: Sequence[Tuple[Recording, Optional[str]]]
) -> Optional[Dict[str, List[Recording]]]:
    """Recordings of each split that a table names; None if it names none. rows: of `from_table`."""
    given = [split for _, split in rows if split]
    if not given:
        return None
    if len(given) < len(rows):
        refuse(f"{path}: {len(rows) - len(given)} rows have no split, the others have one")
    return {split: [row for row, own in rows if own == split] for split in SPLITS}
