"""Checks of what is written: options, dictionary, manifest, labels, speakers.

A new check is one more `yield`. What reading a file says, `manifest` and `labels` raise as
`DataError`, which becomes a finding here.
"""

import os
from collections import Counter
from typing import Any, Iterator, List, Optional, Sequence

from fairseq.data import Dictionary

from .findings import ERROR, WARNING, Finding, Split
from .labels import shared_speaker
from .manifest import (
    DataError,
    read_lines,
    read_manifest,
    read_speakers,
    refuse_bom,
    speakers_path,
)
from .values import read_value_dictionary, read_values

_FEW = 5  # lines that a label is in, to be learned,
_ENOUGH = 50  # of at least so many
MAX_UNKNOWN = 0.01  # share of labels that the dictionary may lack
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's own symbols


def task_findings(cfg: Any) -> Iterator[Finding]:
    """Options of a task that name no data, or give batches that no labels belong to."""
    wanted = {"data": "the folder with the manifests", "labels": "the ending of the label files"}
    for key, what in wanted.items():
        value = cfg[key]
        if key == "labels" and not isinstance(value, str) and value:
            value = value[0]
        if not isinstance(value, str) or not value:
            yield Finding(
                ERROR, "options", None, "", None, f"task.{key}={value}", f"expected {what}"
            )
    if not cfg.sample_rate > 0:
        what = f"task.sample_rate={cfg.sample_rate}"
        yield Finding(ERROR, "options", None, "", None, what, "expected that of the encoder, 16000")
    # A batch cut to its shortest utterance, with all labels of the longer ones.
    if "random_crop" in cfg and "pad_audio" in cfg and (not cfg.pad_audio or cfg.random_crop):
        keys = ("pad_audio", "random_crop")
        what = " ".join(f"task.{key}={str(bool(cfg[key])).lower()}" for key in keys)
        why = (
            "task hubert_pretraining would cut each batch to its shortest file and keep all labels: "
            "set task.fine_tuning=true, or task._name=audio_finetuning"
        )
        yield Finding(ERROR, "options", None, "", None, what, why)


def dictionary_findings(path: str) -> Iterator[Finding]:
    """What fairseq's `Dictionary` cannot read, or no label can mean."""
    if not os.path.isfile(path):
        what = f"no dictionary {path} (task.data, task.labels)"
        yield Finding(ERROR, "dictionary", None, "", None, what, missing=True)
        return
    try:
        _check_dictionary(path)
    except DataError as error:
        yield _of_error(error, "dictionary", None)


def _check_dictionary(path: str) -> None:
    refuse_bom(path)
    seen = set(_SPECIAL)
    for number, line in enumerate(read_lines(path), start=1):
        symbol, _, count = line.rstrip().replace(" #fairseq:overwrite", "").rpartition(" ")
        if not symbol or not count.isdecimal():
            raise DataError(path, number, f"{line!r}, expected symbol count")
        if symbol in seen and "#fairseq:overwrite" not in line:
            what = "is fairseq's own" if symbol in _SPECIAL else "is there already"
            raise DataError(path, number, f"{line!r}: symbol {symbol!r} {what}")
        seen.add(symbol)
    if len(seen) == len(_SPECIAL):
        raise DataError(path, None, "is empty", "expected a line `symbol count` a label")


def file_findings(split: Split, labels: bool = True) -> Iterator[Finding]:
    """Reads manifest, labels (unless told otherwise) and speakers into the split."""
    files = split.files
    try:
        split.manifest = read_manifest(files.manifest)
        if labels:  # fairseq reads it, too
            refuse_bom(files.manifest)
    except (DataError, OSError) as error:
        split.manifest = None
        yield _of_error(error, "manifest", split.name)
        return
    count = len(split.manifest.entries)
    try:
        split.speakers = read_speakers(speakers_path(files.manifest), count)
    except (DataError, OSError) as error:
        yield _of_error(error, "labels", split.name)
    if labels:
        try:
            split.lines = _label_lines(files.labels, files.manifest, count)
        except (DataError, OSError) as error:
            yield _of_error(error, "labels", split.name)


def _label_lines(path: str, manifest: str, count: int) -> List[str]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no label file {path} for {manifest}")
    refuse_bom(path)
    lines = read_lines(path)
    if len(lines) != count:
        what = f"has {len(lines)} lines, {manifest} names {count} audio files"
        raise DataError(path, None, what, "expected one line of labels a file")
    return lines


def _of_error(error: Exception, kind: str, split: Optional[str]) -> Finding:
    if isinstance(error, DataError):
        return Finding(ERROR, kind, split, error.file, error.line, error.what, error.wanted)
    missing = isinstance(error, FileNotFoundError)
    return Finding(ERROR, kind, split, "", None, str(error), missing=missing)


def label_findings(
    split: Split,
    dictionary: Optional[Dictionary],
    max_unknown: float = MAX_UNKNOWN,
    post_process: Optional[str] = None,
) -> Iterator[Finding]:
    """Of the label lines: empty ones, labels that the dictionary lacks, which fairseq would read as
    <unk>, and lines that are all one word. max_unknown: share of unknown labels up to which they
    are a warning. post_process: fairseq's, that makes words of labels."""
    if not 0 <= max_unknown <= 1:
        what = f"model.max_unknown_labels={max_unknown}"
        yield Finding(ERROR, "options", None, "", None, what, "expected a share, 0 .. 1")
    if split.lines is None:
        return
    path = split.files.labels
    empty = [row for row, line in enumerate(split.lines) if not line.split()]
    if len(empty) == len(split.lines):
        yield split.finding(ERROR, "empty", "has no labels in any line", file=path)
        return
    if empty:
        what = f"{len(empty)} files have no labels"
        yield split.finding(WARNING, "empty", what, file=path, rows=empty)
    if dictionary is not None:
        yield from _unknown_labels(split, dictionary, max_unknown)
    longest = max(len(line.split()) for line in split.lines)
    if post_process == "letter" and longest > 1 and not any("|" in line for line in split.lines):
        what = (
            "has no mark | between words in any line: a whole line is one word, and its WER the "
            "share of lines with an error"
        )
        wanted = (
            "for a script without blanks write the labels by manifests/dictionary.py --units "
            "characters, and train with task.labels=chr criterion.post_process=none: that WER is a "
            "character error rate, as uer is here"
        )
        yield split.finding(WARNING, "boundary", what, wanted, file=path)


def value_findings(split: Split) -> Iterator[Finding]:
    """Of label lines that are numbers."""
    try:
        names = read_value_dictionary(split.files.dictionary)
        read_values(split.files.labels, names, len(split.manifest.entries))
    except DataError as error:
        yield _of_error(error, "labels", split.name)


def rare_findings(split: Split, dictionary: Optional[Dictionary]) -> Iterator[Finding]:
    """Labels that a model can hardly learn from a split that trains, and accents that are labels of
    their own, as Unicode's decomposed forms make them."""
    if split.lines is None or dictionary is None:
        return
    lines: Counter = Counter(label for line in split.lines for label in set(line.split()))
    known = dictionary.symbols[dictionary.nspecial :]
    rare = sorted((label for label in known if lines[label] < _FEW), key=lambda x: lines[x])
    path = split.files.labels
    if rare and len(split.lines) >= _ENOUGH:
        what = f"{len(rare)} labels of the dictionary are in fewer than {_FEW} of its lines"
        names = [f"{label!r} ({lines[label]} lines)" for label in rare]
        yield split.finding(WARNING, "rare", what, file=path, names=names)
    marks = [label for label in known if label and all(map(_is_accent, label))]
    if marks:
        what = f"{len(marks)} labels are an accent without its letter"
        wanted = "compose the text (NFC), or name its language (manifests/.. --language tr)"
        names = [f"U+{ord(label[0]):04X} ({lines[label]} lines)" for label in marks]
        yield split.finding(WARNING, "accent", what, wanted, file=path, names=names)


def _is_accent(char: str) -> bool:
    """Of the block whose marks go with any letter. Others write vowels, and are labels."""
    return "\u0300" <= char <= "\u036f"


def _unknown_labels(split: Split, dictionary: Dictionary, most: float) -> Iterator[Finding]:
    unknown: Counter = Counter()
    known, first, total = set(dictionary.symbols) - set(_SPECIAL), None, 0
    for number, line in enumerate(split.lines, start=1):
        for label in line.split():
            total += 1
            if label not in known:
                unknown[label] += 1
                first = first or number
    count = sum(unknown.values())
    if not count:
        return
    symbols = [repr(label) for label, _ in unknown.most_common()]
    what = (
        f"{count} of {total} labels ({100 * count / total:.3g}%) are not in the dictionary, the "
        f"first in line {first}: {_some(symbols, 8)}"
    )
    severity, wanted = WARNING, "they become <unk>"
    if count / total > most:
        what += f"; it has {_some(dictionary.symbols[dictionary.nspecial :], 12)}"
        wanted = f"write the labels with these, or raise model.max_unknown_labels={most:g}"
        severity = ERROR
    path = split.files.labels
    yield Finding(severity, "unknown", split.name, path, None, what, wanted, count)


def speaker_findings(splits: Sequence[Split], severity: str = WARNING) -> Iterator[Finding]:
    """Speakers of more than one split."""
    shared = shared_speaker({split.name: split.speakers or [] for split in splits})
    if shared is not None:
        path = next(split.files.manifest for split in splits if split.name == shared.second)
        wanted = "split by speaker, or set task.allow_shared_speakers=true"
        where = (severity, "speakers", None, speakers_path(path), None, str(shared))
        yield Finding(*where, wanted if severity == ERROR else "", shared.number)


def _some(symbols: Sequence[str], most: int) -> str:
    more = f" and {len(symbols) - most} more" if len(symbols) > most else ""
    return " ".join(symbols[:most]) + more or "none"
