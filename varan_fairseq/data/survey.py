"""All findings on a corpus at once: what `varan-check` prints."""

import os
from dataclasses import dataclass
from typing import List, Sequence

from fairseq.data import Dictionary

from .audio_checks import overlap_findings, sample_findings
from .checks import (
    dictionary_findings,
    file_findings,
    label_findings,
    rare_findings,
    speaker_findings,
    value_findings,
)
from .findings import Finding, Frames, Split, SplitFiles
from .length_checks import length_findings
from .values import are_values


@dataclass(frozen=True)
class Survey:
    """splits: those whose manifests can be read."""

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
    path = os.path.join(data, f"dict.{labels}.txt")
    findings = list(dictionary_findings(path))
    dictionary = None if findings else Dictionary.load(path)
    splits = []
    for name in names:
        files = SplitFiles(
            os.path.join(data, f"{name}.tsv"), os.path.join(data, f"{name}.{labels}"), path
        )
        split = Split(name, files)
        findings += file_findings(split)
        if split.manifest is None:
            continue
        if samples:
            findings += sample_findings(split, sample_rate, jobs)
        findings += length_findings(split, frames)
        splits.append(split)
        if dictionary and are_values(split.lines or [], dictionary.symbols[dictionary.nspecial :]):
            findings += value_findings(split)
            continue
        spelling = "letter" if labels == "ltr" else None
        findings += label_findings(split, dictionary, post_process=spelling)
        if name == "train":
            findings += rare_findings(split, dictionary)
    findings += overlap_findings(splits)
    findings += speaker_findings(splits)
    return Survey(splits, findings)
