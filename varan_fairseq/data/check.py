"""Everything of a split that would stop or spoil a run, found before it begins."""

import logging
import os
from collections import Counter
from typing import Any, List, NamedTuple, Optional, Sequence

from fairseq.data import Dictionary

from .audio_check import audio_problems, refuse_audio
from .manifest import Manifest, read_lines, read_manifest, refuse_bom

logger = logging.getLogger(__name__)

MAX_UNKNOWN = 0.01
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's own symbols


class SplitFiles(NamedTuple):
    """Paths of a split, as fairseq's tasks read them."""

    manifest: str
    labels: str
    dictionary: str


def split_files(cfg: Any, split: str) -> SplitFiles:
    """cfg: of task `audio_finetuning` or `hubert_pretraining`."""
    labels = cfg.labels if isinstance(cfg.labels, str) else cfg.labels[0]
    folder = getattr(cfg, "label_dir", None) or cfg.data
    dictionaries = getattr(cfg, "target_dictionary", None) or folder
    return SplitFiles(
        os.path.join(cfg.data, f"{split}.tsv"),
        os.path.join(folder, f"{split}.{labels}"),
        os.path.join(dictionaries, f"dict.{labels}.txt"),
    )


def check_task(cfg: Any) -> None:
    """Raises ValueError for options of a task that name no data, or give batches that no
    labels belong to."""
    wanted = {"data": "the folder with the manifests", "labels": "the ending of the label files"}
    for key, what in wanted.items():
        value = cfg[key]
        if key == "labels" and not isinstance(value, str) and value:
            value = value[0]
        if not isinstance(value, str) or not value:
            raise ValueError(f"task.{key}={value}: wanted {what}")
    # A batch cut to its shortest utterance, with all labels of the longer ones.
    if "random_crop" in cfg and "pad_audio" in cfg and (not cfg.pad_audio or cfg.random_crop):
        raise ValueError(
            f"task.pad_audio={str(bool(cfg.pad_audio)).lower()} "
            f"task.random_crop={str(bool(cfg.random_crop)).lower()}: task hubert_pretraining "
            "would cut each batch to its shortest file and keep all labels: set "
            "task.pad_audio=true task.random_crop=false, or task._name=audio_finetuning"
        )


def check_dictionary(path: str) -> None:
    """Raises FileNotFoundError, or ValueError naming the line, for what fairseq's `Dictionary`
    cannot read or no label can mean."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no dictionary {path} (task.data, task.labels)")
    refuse_bom(path)
    lines = read_lines(path)
    seen = set(_SPECIAL)
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}: {line!r}"
        symbol, _, count = line.rstrip().replace(" #fairseq:overwrite", "").rpartition(" ")
        if not symbol or not count.isdecimal():
            raise ValueError(f"{where}, wanted symbol count")
        if symbol in seen and "#fairseq:overwrite" not in line:
            what = "is fairseq's own" if symbol in _SPECIAL else "is there already"
            raise ValueError(f"{where}: symbol {symbol!r} {what}")
        seen.add(symbol)
    if len(seen) == len(_SPECIAL):
        raise ValueError(f"{path} is empty: wanted a line `symbol count` a label")


def check_split(
    files: SplitFiles,
    dictionary: Dictionary,
    sample_rate: int,
    *,
    audio: bool = True,
    max_unknown: float = MAX_UNKNOWN,
    min_sample_size: Optional[int] = None,
) -> Manifest:
    """Checks a split's manifest and labels, and, unless `audio` is false, its audio files.

    dictionary: the labels that are known. max_unknown: share of the labels that may be
    outside of it. min_sample_size: shorter files are left out by the task. Returns the
    manifest. Raises FileNotFoundError or ValueError naming the file, the value found and the
    value wanted; what is let through is logged.
    """
    if not 0 <= max_unknown <= 1:
        raise ValueError(f"model.max_unknown_labels={max_unknown}: wanted a share, 0 .. 1")
    manifest = read_manifest(files.manifest)
    refuse_bom(files.manifest)
    if not os.path.isfile(files.labels):
        raise FileNotFoundError(f"no label file {files.labels} for {files.manifest}")
    refuse_bom(files.labels)
    lines = read_lines(files.labels)
    if len(lines) != len(manifest.entries):
        raise ValueError(
            f"{files.labels} has {len(lines)} lines, {files.manifest} names "
            f"{len(manifest.entries)} audio files: wanted one line of labels a file"
        )
    check_labels(files.labels, lines, dictionary, max_unknown)
    if audio:
        problems = audio_problems(files.manifest, manifest, sample_rate, min_sample_size)
        refuse_audio(files.manifest, problems)
    return manifest


def check_labels(
    path: str, lines: Sequence[str], dictionary: Dictionary, max_unknown: float
) -> None:
    """Raises ValueError if there are no labels at all, or too many that the dictionary lacks,
    which fairseq would read as <unk>."""
    unknown = unknown_labels(lines, dictionary)
    if not unknown.total:
        raise ValueError(f"{path} has no labels in any line")
    if not unknown.labels:
        return
    found = f"{path}: {unknown}"
    if unknown.share > max_unknown:
        raise ValueError(
            f"{found}; it has {_some(dictionary.symbols[dictionary.nspecial :])}. Write the labels "
            f"with these, or raise model.max_unknown_labels={max_unknown:g}"
        )
    logger.warning("%s: they become <unk>", found)


class Unknown(NamedTuple):
    """Labels that a dictionary lacks, with their counts. first: line of the first. total: of all
    labels."""

    labels: Counter
    first: Optional[int]
    total: int

    @property
    def share(self) -> float:
        return sum(self.labels.values()) / max(self.total, 1)

    def __str__(self) -> str:
        symbols = " ".join(repr(label) for label, _ in self.labels.most_common(8))
        more = f" and {len(self.labels) - 8} more" if len(self.labels) > 8 else ""
        return (
            f"{sum(self.labels.values())} of {self.total} labels ({100 * self.share:.3g}%) are not "
            f"in the dictionary, the first in line {self.first}: {symbols}{more}"
        )


def unknown_labels(lines: Sequence[str], dictionary: Dictionary) -> Unknown:
    """Of the lines of a label file."""
    labels, first, total = Counter(), None, 0
    known = set(dictionary.symbols) - set(_SPECIAL)
    for number, line in enumerate(lines, start=1):
        for label in line.split():
            total += 1
            if label not in known:
                labels[label] += 1
                first = first or number
    return Unknown(labels, first, total)


def _some(symbols: List[str]) -> str:
    more = f" and {len(symbols) - 12} more" if len(symbols) > 12 else ""
    return " ".join(symbols[:12]) + more or "none"
