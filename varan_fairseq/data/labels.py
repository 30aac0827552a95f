"""Label sets of classifiers, and label files: one label a line, in the manifest's order."""

import os
import unicodedata
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

if TYPE_CHECKING:
    from fairseq.data import Dictionary

from ..runtime.files import write_lines
from .manifest import DataError, check_rows, manifest_rows, read_lines, write_speakers


def class_dictionary(labels: Iterable[Tuple[str, int]] = ()) -> "Dictionary":
    """A dictionary of (label, count) alone, so that its indices are those of the classes.

    fairseq's special symbols are not classes; asked for their indices it gives -100, which
    PyTorch's losses ignore.
    """
    from fairseq.data import Dictionary  # the scripts of manifests/ do without fairseq

    dictionary = Dictionary()
    dictionary.symbols, dictionary.count, dictionary.indices = [], [], {}
    dictionary.nspecial = 0
    dictionary.bos_index = dictionary.pad_index = -100
    dictionary.eos_index = dictionary.unk_index = -100
    for label, count in labels:
        dictionary.add_symbol(label, n=count)
    return dictionary


def read_class_dictionary(path: str, least: int = 2) -> "Dictionary":
    """Reads `dict.{labels}.txt`: a line `label count` a class, class 0 first. least: classes that
    there must be. Raises FileNotFoundError, or ValueError naming the line."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no dictionary {path}: a line `label count` a class")
    rows = {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdecimal():
            raise DataError(path, number, f"{line!r}, expected label count")
        if fields[0] in rows:
            raise DataError(path, number, f"label {fields[0]!r} is there already")
        if fields[0].startswith("="):
            what = f"label {fields[0]!r} begins with =, which spreadsheets take for a formula"
            raise DataError(path, number, what, "rename it")
        rows[fields[0]] = int(fields[1])
    if len(rows) < least:
        raise DataError(path, None, f"has {len(rows)} labels, expected {least} or more")
    return class_dictionary(rows.items())


def read_labels(path: str, dictionary: "Dictionary", count: int) -> List[int]:
    """Class indices from `{split}.{labels}`. count: entries of the manifest it belongs to.

    Raises FileNotFoundError, or ValueError that names the line of an unknown label.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no label file {path}")
    labels = [line.strip() for line in read_lines(path)]
    check_rows(path, len(labels), count, "expected one label a file")
    for number, label in enumerate(labels, start=1):
        if label not in dictionary:
            what = f"unknown label {label!r}, expected one of {', '.join(dictionary.symbols)}"
            raise DataError(path, number, what)
    return [dictionary.indices[label] for label in labels]


def first_difference(theirs: Sequence[str], ours: Sequence[str]) -> Optional[int]:
    """Where two lists of labels first differ; None if one begins with the other."""
    pairs = enumerate(zip(theirs, ours))
    return next((index for index, pair in pairs if pair[0] != pair[1]), None)


@dataclass(frozen=True)
class SharedSpeaker:
    """A speaker of two splits, and how many such speakers there are."""

    speaker: str
    first: str
    second: str
    number: int

    def __str__(self) -> str:
        return (
            f"speaker {self.speaker} is in {self.first} and in {self.second} ({self.number} shared "
            "speakers)"
        )


def speaker_name(name: str) -> str:
    """One name for what a reader takes for one: NFC, blanks alike."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def shared_speaker(speakers: Mapping[str, Iterable[str]]) -> Optional[SharedSpeaker]:
    """speakers: of each split; names that look alike are one. None if no speaker is in two of
    them."""
    seen: Dict[str, str] = {}
    for split, names in speakers.items():
        shared = sorted(
            {name for name in map(speaker_name, names) if seen.setdefault(name, split) != split}
        )
        if shared:
            return SharedSpeaker(shared[0], seen[shared[0]], split, len(shared))
    return None


@dataclass(frozen=True)
class LabelledUtterance:
    """path: of the audio, relative to the manifest's root. samples: its length."""

    path: str
    samples: int
    label: str
    speaker: Optional[str]


def write_labelled_split(
    data: str, split: str, labels: str, root: str, utterances: Sequence[LabelledUtterance]
) -> None:
    """Writes `{split}.tsv`, `{split}.{labels}` and, if all speakers are known, `{split}.spk`.
    Raises ValueError for a path that a manifest cannot hold."""
    rows = manifest_rows(root, ((row.path, row.samples) for row in utterances))
    write_speakers(data, split, [row.speaker for row in utterances])
    write_lines(os.path.join(data, f"{split}.{labels}"), (row.label for row in utterances))
    write_lines(os.path.join(data, f"{split}.tsv"), rows)


def write_class_dictionary(data: str, labels: str, classes: Dict[str, int]) -> None:
    """Writes `dict.{labels}.txt`: the classes in their order, with their counts."""
    rows = (f"{name} {count}" for name, count in classes.items())
    write_lines(os.path.join(data, f"dict.{labels}.txt"), rows)
