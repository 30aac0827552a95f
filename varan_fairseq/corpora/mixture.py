"""Several corpora as one: how often each is there, and one dictionary for all."""

import argparse
import os
import random
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from ..data.manifest import (
    DataError,
    check_rows,
    manifest_rows,
    read_lines,
    read_manifest,
    read_speakers,
)
from ..runtime.files import write_lines
from .labelled import RATE
from .options import refuse


@dataclass(frozen=True)
class Part:
    """A split of a corpus. entries: (absolute path, samples). columns: the lines of its label
    file, words and speakers, by their endings; those that it has."""

    folder: str
    split: str
    entries: List[Tuple[str, int]]
    columns: Dict[str, List[str]]

    @property
    def hours(self) -> float:
        return sum(samples for _, samples in self.entries) / RATE / 3600


def read_part(text: str, split: str, labels: str) -> Part:
    """text: FOLDER or FOLDER:SPLIT. split: the default. Raises as the readers of its files do."""
    folder = text
    if not os.path.isdir(text) and ":" in text:
        folder, _, split = text.rpartition(":")
    if not os.path.isdir(folder):
        refuse(f"no folder {folder}")
    stem = os.path.join(folder, split)
    manifest = read_manifest(f"{stem}.tsv")
    count = len(manifest.entries)
    if not os.path.isfile(f"{stem}.{labels}"):
        refuse(f"no {stem}.{labels}: --labels gives the ending of the label files")
    columns = {}
    for ending in (labels, "wrd"):
        if os.path.isfile(f"{stem}.{ending}"):
            columns[ending] = read_lines(f"{stem}.{ending}")
            lines = len(columns[ending])
            check_rows(f"{stem}.{ending}", lines, count, "expected one line per file")
    speakers = read_speakers(f"{stem}.spk", count)
    if speakers is not None:
        columns["spk"] = speakers
    root = os.path.abspath(manifest.root)
    entries = [(os.path.join(root, path), samples) for path, samples in manifest.entries]
    return Part(folder, split, entries, columns)


def names_of(parts: Sequence[Part]) -> Dict[str, str]:
    """A short name of each folder, for splits and speakers: its last part. Refuses two alike."""
    names: Dict[str, str] = {}
    for part in parts:
        name = os.path.basename(os.path.realpath(part.folder))
        for folder, other in names.items():
            if other == name and os.path.realpath(folder) != os.path.realpath(part.folder):
                refuse(f"{folder} and {part.folder} are both called {name}: rename one")
        names[part.folder] = name
    return names


def times(hours: Sequence[float], temperature: float) -> List[float]:
    """How often each corpus is in an epoch, [N], so that its share is proportional to
    hours^(1 / temperature) and the longest is there once."""
    most = max(hours)
    return [(most / own) ** (1 - 1 / temperature) for own in hours]


class Labels:
    """Of a dictionary: counts of its symbols, in the order of their indices."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = {}

    def add(self, path: str) -> List[str]:
        """Reads `symbol count` lines; returns the symbols that were not there. Raises ValueError
        that names the line."""
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no dictionary {path}")
        new = []
        for number, line in enumerate(read_lines(path), start=1):
            symbol, _, count = line.rpartition(" ")
            if not symbol or not count.isdecimal():
                raise DataError(path, number, f"{line!r}, expected label count")
            if symbol not in self.counts:
                new.append(symbol)
            self.counts[symbol] = self.counts.get(symbol, 0) + int(count)
        return new

    def write(self, path: str) -> None:
        write_lines(path, (f"{symbol} {count}" for symbol, count in self.counts.items()))


def merge_dictionaries(folders: Sequence[str], labels: str) -> Tuple[Labels, Dict[str, List[str]]]:
    """The labels of the first corpus keep their indices. Returns all, and what each later folder
    brings that those before it do not have."""
    merged, added = Labels(), {}
    for folder in dict.fromkeys(folders):
        new = merged.add(os.path.join(folder, f"dict.{labels}.txt"))
        if new and len(new) < len(merged.counts):
            added[folder] = new
    return merged, added


def write_parts(
    data: str,
    name: str,
    parts: Sequence[Part],
    factors: Sequence[float],
    names: Mapping[str, str],
    args: argparse.Namespace,
) -> float:
    """Writes a split: each part so many times; words and speakers if all have them. Speakers are
    `corpus/speaker`. Returns its hours."""
    rng = random.Random(args.seed)
    rows = [(part, row) for part, factor in zip(parts, factors) for row in _rows(part, factor, rng)]
    paths = [path for part in parts for path, _ in part.entries]
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    files = [part.entries[row] for part, row in rows]
    entries = [(os.path.relpath(path, root), samples) for path, samples in files]
    for ending in (args.labels, "wrd", "spk"):
        if all(ending in part.columns for part in parts):
            lines = [part.columns[ending][row] for part, row in rows]
            if ending == "spk":
                lines = [f"{names[part.folder]}/{line}" for (part, _), line in zip(rows, lines)]
            write_lines(os.path.join(data, f"{name}.{ending}"), lines)
    write_lines(os.path.join(data, f"{name}.tsv"), manifest_rows(root, entries))
    return sum(samples for _, samples in entries) / RATE / 3600


def _rows(part: Part, factor: float, rng: random.Random) -> List[int]:
    """Indices of a part's rows, all of them floor(factor) times and a random rest."""
    count = len(part.entries)
    rest = rng.sample(range(count), round((factor - int(factor)) * count))
    return list(range(count)) * int(factor) + sorted(rest)
