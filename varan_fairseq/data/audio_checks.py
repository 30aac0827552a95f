"""Checks of what is to be heard: audio files' headers, or every sample of them."""

from collections import defaultdict
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from .audio_files import CLIPPED_SHARE, SILENT, AudioProblem, Heard, header_problems, listen
from .findings import ERROR, WARNING, Finding, Split


def header_findings(
    split: Split,
    sample_rate: int,
    min_sample_size: Optional[int] = None,
    max_unreadable: Optional[float] = None,
) -> Iterator[Finding]:
    """Of headers, which are read unless nothing changed since they last were.

    min_sample_size: shorter files are left out by the task. max_unreadable: share of the files that
    may be unreadable, which are then left out of the split with a warning; None for none.
    """
    path, count = split.files.manifest, len(split.manifest.entries)
    problems = header_problems(path, split.manifest, sample_rate, min_sample_size)
    lost = [problem for problem in problems if problem.unreadable]
    if max_unreadable is None or not lost:
        yield from _problems(split, problems)
        return
    yield from _problems(split, [problem for problem in problems if not problem.unreadable])
    share, names = len(lost) / count, [problem.text for problem in lost]
    if share > max_unreadable:
        what = (
            f"{len(lost)} of {count} audio files cannot be read ({100 * share:.1f}%, "
            f"task.max_unreadable={max_unreadable} allows {100 * max_unreadable:g}%), the first: "
            f"{names[0]}"
        )
        yield split.finding(ERROR, "unreadable", what, names=names)
    split.unreadable = {problem.row for problem in lost}
    for name in names:
        yield split.finding(WARNING, "unreadable", f"left out of {split.name}: {name}", file="")
    what = f"{len(lost)} of {count} audio files left out"
    yield split.finding(WARNING, "unreadable", what, names=names)


def sample_findings(split: Split, sample_rate: int, jobs: int) -> Iterator[Finding]:
    """Of every sample. jobs: processes."""
    split.heard = listen(split.manifest, sample_rate, jobs, f"audio of {split.name}")
    heard = [(name, clip) for (name, _), clip in zip(split.manifest.entries, split.heard)]
    yield from _problems(split, [clip.problem for _, clip in heard if clip.problem])
    sound = [(name, clip) for name, clip in heard if not clip.problem]

    def some(kind: str, text: str, names: Sequence[str]) -> Iterator[Finding]:
        if names:
            yield split.finding(WARNING, kind, f"{len(names)} {text}", names=names)

    silent = [name for name, clip in sound if clip.peak < SILENT]
    yield from some("silence", f"files are silent (below {SILENT:g})", silent)
    clipped = [name for name, clip in sound if clip.clipped > CLIPPED_SHARE]
    text = f"files are clipped (more than {100 * CLIPPED_SHARE:g}% of their samples)"
    yield from some("clipping", text, clipped)
    several = [name for name, clip in sound if clip.channels != 1]
    yield from some("channels", "files have several channels, which fairseq averages", several)
    yield from some("duplicates", "recordings are there more than once", _duplicates(sound))


def _duplicates(sound: Sequence[Tuple[str, Heard]]) -> List[str]:
    same: Dict[bytes, List[str]] = defaultdict(list)
    for name, heard in sound:
        same[heard.digest].append(name)
    return [f"{names[0]} = {names[1]}" for names in same.values() if len(names) > 1]


def _problems(split: Split, problems: Sequence[AudioProblem]) -> Iterator[Finding]:
    for kind, unreadable in (("unreadable", True), ("audio", False)):
        texts = [problem.text for problem in problems if problem.unreadable == unreadable]
        if texts:
            more = f" (and {len(texts) - 1} more such files)" if len(texts) > 1 else ""
            yield split.finding(ERROR, kind, texts[0] + more, names=texts)


def overlap_findings(splits: Sequence[Split]) -> Iterator[Finding]:
    """Recordings of more than one split, by what was heard of them."""
    seen: Dict[bytes, Tuple[str, str]] = {}
    shared: Dict[Tuple[str, str], List[str]] = defaultdict(list)
    for split in splits:
        for (name, _), heard in zip(split.manifest.entries, split.heard or []):
            if not heard.digest:
                continue
            first, other = seen.setdefault(heard.digest, (split.name, name))
            if first != split.name:
                shared[first, split.name].append(f"{other} = {name}")
    named = {split.name: split for split in splits}
    for (first, second), names in shared.items():
        what = f"{len(names)} recordings of {second} are in {first} too"
        yield named[second].finding(ERROR, "overlap", what, names=names, file="")
