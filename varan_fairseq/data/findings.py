"""What a check finds, and the split that it looks at.

Training, decoding and scoring `enforce` findings: the first error is raised, warnings are logged.
`varan-check` prints all of them. The checks are in `checks` (text) and `audio_checks`.
"""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, List, Optional, Sequence, Set

import numpy as np

from .audio_files import Heard
from .manifest import sentence

logger = logging.getLogger(__name__)

ERROR, WARNING = "error", "warning"
_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    severity: `ERROR` stops a run or makes its figures wrong, `WARNING` is for a person to judge.
    kind: one word. split: None for the whole corpus. file, line: where; no line for all of the
    file, no file where `what` names it. what, wanted: found and expected. count: utterances or
    labels. examples: some of them. missing: whether the file does not exist.
    """

    severity: str
    kind: str
    split: Optional[str]
    file: str
    line: Optional[int]
    what: str
    wanted: str = ""
    count: int = 1
    examples: Sequence[str] = ()
    missing: bool = False

    @property
    def text(self) -> str:
        return sentence(self.file, self.line, self.what, self.wanted)


def enforce(findings: Iterable[Finding]) -> None:
    """Raises the first error, as ValueError or FileNotFoundError; logs the warnings before it."""
    for finding in findings:
        if finding.severity == ERROR:
            raise (FileNotFoundError if finding.missing else ValueError)(finding.text)
        logger.warning("%s", finding.text)


@dataclass(frozen=True)
class SplitFiles:
    """Paths of a split, as fairseq's tasks read them."""

    manifest: str
    labels: str
    dictionary: str


def split_files(cfg: Any, split: str) -> SplitFiles:
    """cfg: of a task that reads manifests and labels."""
    labels = cfg.labels if isinstance(cfg.labels, str) else cfg.labels[0]
    folder = getattr(cfg, "label_dir", None) or cfg.data
    dictionaries = getattr(cfg, "target_dictionary", None) or folder
    return SplitFiles(
        os.path.join(cfg.data, f"{split}.tsv"),
        os.path.join(folder, f"{split}.{labels}"),
        os.path.join(dictionaries, f"dict.{labels}.txt"),
    )


@dataclass
class Split:
    """A split, and what checks have read of it: None until then, or where it cannot be read.

    manifest, lines (of the label file), speakers: by `checks.file_findings`. heard: of every file,
    by `audio_checks.sample_findings`. unreadable: rows left out, by `audio_checks.header_findings`.
    """

    name: str
    files: SplitFiles
    manifest: Any = None  # a Manifest, once it is read
    lines: Any = None  # a list of str
    speakers: Optional[List[str]] = None
    heard: Optional[List[Heard]] = None
    unreadable: Set[int] = field(default_factory=set)

    def finding(
        self,
        severity: str,
        kind: str,
        what: str,
        wanted: str = "",
        *,
        file: Optional[str] = None,
        rows: Any = (),
        names: Sequence[str] = (),
        first: bool = False,
    ) -> Finding:
        """file: default: the manifest. rows: that it is about, with the line of the `first`, or
        names: other examples."""
        examples = names[:_EXAMPLES]
        if len(rows):
            manifest = os.path.basename(self.files.manifest)
            entries = [(self.manifest.entries[row][0], row + 2) for row in rows[:_EXAMPLES]]
            examples = [f"{name} (line {line} of {manifest})" for name, line in entries]
        return Finding(
            severity,
            kind,
            self.name,
            self.files.manifest if file is None else file,
            int(rows[0]) + 2 if first else None,
            what,
            wanted,
            len(rows) or len(names) or 1,
            examples,
        )


@dataclass(frozen=True)
class Frames:
    """Of an encoder. receptive_field: samples of its first frame. of_samples: samples [N] -> frames
    [N]."""

    receptive_field: int
    of_samples: Callable[[np.ndarray], np.ndarray]
