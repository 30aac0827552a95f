"""All that would fail or bias a long run on a corpus: what varan-check reports.

Errors stop a run, or make its figures wrong; warnings are for a person to judge. Training calls the
same functions before it starts, and stops at the first error.
"""

import os
from collections import defaultdict
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from fairseq.data import Dictionary

from .check import MAX_UNKNOWN, check_dictionary, unknown_labels
from .labels import shared_speaker
from .listen import CLIPPED_SHARE, SILENT, Heard, listen
from .manifest import Manifest, read_lines, read_manifest, refuse_bom

ERROR, WARNING = "error", "warning"
_EXAMPLES = 3


class Frames(NamedTuple):
    """Of an encoder. field: samples of its first frame. of: samples [N] -> frames [N]."""

    field: int
    of: Callable[[np.ndarray], np.ndarray]


class Finding(NamedTuple):
    """split: None if it is of the corpus. kind: a word for what it is. count: how many utterances
    or labels. examples: some of them."""

    level: str
    split: Optional[str]
    kind: str
    text: str
    count: int = 1
    examples: Sequence[str] = ()


class Split(NamedTuple):
    """What is known of a split. labels: its lines, or None. heard: of its audio, or None."""

    name: str
    manifest: Manifest
    labels: Optional[List[str]]
    speakers: Optional[List[str]]
    heard: Optional[List[Optional[Heard]]]


class Survey(NamedTuple):
    splits: List[Split]
    findings: List[Finding]


def survey(
    data: str,
    names: Sequence[str],
    labels: str,
    frames: Frames,
    sample_rate: int,
    jobs: int = 1,
    samples: bool = True,
) -> Survey:
    """Looks at splits of a folder. labels: ending of the label files. jobs: processes. samples:
    read every sample, else nothing but manifests and labels."""
    findings: List[Finding] = []
    dictionary = _dictionary(os.path.join(data, f"dict.{labels}.txt"), findings)
    splits = []
    for name in names:
        split = _read(data, name, labels, findings)
        if split is None:
            continue
        if samples:
            heard = listen(split.manifest, sample_rate, jobs, f"audio of {name}")
            split = split._replace(heard=heard)
            findings += audio_findings(split)
        findings += label_findings(split, dictionary, frames)
        splits.append(split)
    findings += overlaps(splits)
    return Survey(splits, findings)


def _dictionary(path: str, findings: List[Finding]) -> Optional[Dictionary]:
    try:
        check_dictionary(path)
        return Dictionary.load(path)
    except (ValueError, OSError) as error:
        findings.append(Finding(ERROR, None, "dictionary", str(error)))
        return None


def _read(data: str, name: str, labels: str, findings: List[Finding]) -> Optional[Split]:
    path = os.path.join(data, f"{name}.tsv")
    try:
        manifest = read_manifest(path)
        refuse_bom(path)
    except (ValueError, OSError) as error:
        findings.append(Finding(ERROR, name, "manifest", str(error)))
        return None
    beside: Dict[str, Optional[List[str]]] = {}
    for ending in (labels, "spk"):
        file = os.path.join(data, f"{name}.{ending}")
        beside[ending] = None
        if not os.path.isfile(file):
            if ending == labels:
                findings.append(Finding(ERROR, name, "labels", f"no label file {file}"))
            continue
        try:
            refuse_bom(file)
            lines = read_lines(file)
        except (ValueError, OSError) as error:
            findings.append(Finding(ERROR, name, "labels", str(error)))
            continue
        if len(lines) == len(manifest.entries):
            beside[ending] = lines
            continue
        text = f"{file} has {len(lines)} lines, {path} names {len(manifest.entries)} files"
        findings.append(Finding(ERROR, name, "labels", text))
    return Split(name, manifest, beside[labels], beside["spk"], None)


def audio_findings(split: Split) -> List[Finding]:
    """Of files that were listened to."""
    names = [name for name, _ in split.manifest.entries]
    groups: Dict[Tuple[str, str, str], List[str]] = defaultdict(list)
    same: Dict[bytes, List[str]] = defaultdict(list)
    for name, heard in zip(names, split.heard or []):
        if heard is None:
            continue
        if heard.problem is not None:
            kind = "unreadable" if heard.problem.unreadable else "audio"
            what = "cannot be read" if heard.problem.unreadable else "are not as they should be"
            groups[ERROR, kind, f"files {what}"].append(heard.problem.text)
            continue
        if heard.peak < SILENT:
            groups[WARNING, "silence", f"files are silent (below {SILENT:g})"].append(name)
        if heard.clipped > CLIPPED_SHARE:
            text = f"files are clipped (more than {100 * CLIPPED_SHARE:g}% of their samples)"
            groups[WARNING, "clipping", text].append(name)
        if heard.channels != 1:
            text = "files have several channels, which fairseq averages"
            groups[WARNING, "channels", text].append(name)
        same[heard.digest].append(name)
    twice = [f"{each[0]} = {each[1]}" for each in same.values() if len(each) > 1]
    if twice:
        groups[WARNING, "duplicates", "recordings are there more than once"] = twice
    return [
        Finding(level, split.name, kind, f"{len(found)} {text}", len(found), found[:_EXAMPLES])
        for (level, kind, text), found in groups.items()
    ]


def label_findings(split: Split, dictionary: Optional[Dictionary], frames: Frames) -> List[Finding]:
    """Of labels, and of lengths."""
    findings = []
    sizes = split.manifest.samples
    names = [name for name, _ in split.manifest.entries]

    def add(level: str, kind: str, rows: Sequence[int], text: str) -> None:
        if len(rows):
            shown = [
                f"{names[row]} (line {row + 2} of {split.name}.tsv)" for row in rows[:_EXAMPLES]
            ]
            findings.append(
                Finding(level, split.name, kind, f"{len(rows)} {text}", len(rows), shown)
            )

    short = np.flatnonzero(sizes < frames.field)
    add(ERROR, "short", short, f"files are shorter than {frames.field} samples, an encoder's frame")
    if split.labels is None:
        return findings
    labels = [line.split() for line in split.labels]
    needed = np.array([len(each) + _repeats(each) for each in labels])
    cramped = np.flatnonzero((needed > frames.of(sizes)) & (sizes >= frames.field))
    text = (
        "files have more labels than frames: CTC cannot learn them (criterion.zero_infinity=true)"
    )
    add(WARNING, "infeasible", cramped, text)
    empty = np.flatnonzero(needed == 0)
    add(WARNING, "empty", empty, "files have no labels")
    if dictionary is not None:
        unknown = unknown_labels(split.labels, dictionary)
        if unknown.labels:
            level = ERROR if unknown.share > MAX_UNKNOWN else WARNING
            count = sum(unknown.labels.values())
            findings.append(Finding(level, split.name, "unknown", str(unknown), count))
    return findings


def _repeats(labels: Sequence[str]) -> int:
    return sum(label == last for label, last in zip(labels[1:], labels))


def overlaps(splits: Sequence[Split]) -> List[Finding]:
    """Recordings and speakers of more than one split."""
    findings = []
    seen: Dict[bytes, Tuple[str, str]] = {}
    shared: Dict[Tuple[str, str], List[str]] = defaultdict(list)
    for split in splits:
        for (name, _), heard in zip(split.manifest.entries, split.heard or []):
            if heard is None or not heard.digest:
                continue
            first, other = seen.setdefault(heard.digest, (split.name, name))
            if first != split.name:
                shared[first, split.name].append(f"{other} = {name}")
    for (first, second), found in shared.items():
        text = f"{len(found)} recordings of {second} are in {first} too"
        findings.append(Finding(ERROR, second, "overlap", text, len(found), found[:_EXAMPLES]))
    speakers = shared_speaker({split.name: split.speakers or [] for split in splits})
    if speakers is not None:
        findings.append(Finding(WARNING, None, "speakers", str(speakers), speakers.count))
    return findings
