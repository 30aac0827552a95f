"""Reading, checking and writing fairseq's manifests.

A split is `{split}.tsv` (the audio folder, then a line `path<TAB>samples` a file) and
`{split}.{labels}` (a line of labels a file, in the same order), beside `dict.{labels}.txt`.
"""

import concurrent.futures
import logging
import os
import time
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

logger = logging.getLogger(__name__)


class Manifest(NamedTuple):
    """root: the audio folder. entries: (path relative to root, number of samples)."""

    root: str
    entries: List[Tuple[str, int]]


def read_manifest(path: str) -> Manifest:
    """Reads a `.tsv`. Raises FileNotFoundError or ValueError naming file and line."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no manifest {path}")
    with open(path, encoding="utf-8") as lines:
        root = lines.readline().strip()
        entries = []
        for number, line in enumerate(lines, start=2):
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 2 or not fields[1].strip().isdigit():
                raise ValueError(
                    f"{path}, line {number}: {line.rstrip()!r}, wanted path<TAB>number of samples"
                )
            entries.append((fields[0], int(fields[1])))
    if not entries:
        raise ValueError(f"{path} is empty: it names the folder {root!r} and no audio file")
    return Manifest(root, entries)


def check_split(
    data: str, split: str, labels: str, sample_rate: int, audio: bool = True
) -> Manifest:
    """Checks everything that would stop or spoil a run later: dictionary, labels,
    manifest, and, unless `audio` is false, the header of every audio file (existence,
    sample rate, length) and the samples of those whose format can hold NaN.

    Returns the manifest. Raises FileNotFoundError or ValueError naming the file, the value
    found and the value wanted.
    """
    dictionary = os.path.join(data, f"dict.{labels}.txt")
    if not os.path.isfile(dictionary):
        raise FileNotFoundError(f"no dictionary {dictionary} (task.data, task.labels={labels})")
    label_path = os.path.join(data, f"{split}.{labels}")
    manifest_path = os.path.join(data, f"{split}.tsv")
    manifest = read_manifest(manifest_path)
    if not os.path.isfile(label_path):
        raise FileNotFoundError(f"no label file {label_path} for {manifest_path}")
    with open(label_path, encoding="utf-8") as lines:
        count = sum(1 for _ in lines)
    if count != len(manifest.entries):
        raise ValueError(
            f"{label_path} has {count} lines, {manifest_path} names {len(manifest.entries)} "
            "audio files: wanted one line of labels a file"
        )
    if audio:
        refuse_audio(manifest_path, audio_problems(manifest_path, manifest, sample_rate))
    return manifest


class AudioProblem(NamedTuple):
    """row: of the manifest's entries. text: what is wrong, with the file's name. unreadable:
    missing or no audio at all, rather than audio that is not as the manifest says."""

    row: int
    text: str
    unreadable: bool


def audio_problems(path: str, manifest: Manifest, sample_rate: int) -> List[AudioProblem]:
    """Reads the header of every audio file of a manifest (`path`, for the log), and the samples
    of those whose format can hold NaN. Entries inside archives are left out, and logged."""
    start = time.time()
    # fairseq's `archive.zip:offset:length` entries are not files of their own
    rows = [row for row, entry in enumerate(manifest.entries) if ":" not in entry[0]]

    def problem(row):
        name, samples = manifest.entries[row]
        return _audio_problem(row, os.path.join(manifest.root, name), samples, sample_rate)

    # Reading headers waits for the disk, so threads help even on one core.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        problems = [found for found in pool.map(problem, rows) if found]
    inside = len(manifest.entries) - len(rows)
    logger.info(
        "%s: checked %d audio files in %.1f s%s",
        path,
        len(rows),
        time.time() - start,
        f", did not check {inside} inside archives" if inside else "",
    )
    return problems


def refuse_audio(path: str, problems: Sequence[AudioProblem]) -> None:
    """Raises ValueError for the first of the problems of a manifest, if there are any."""
    if problems:
        more = f" (and {len(problems) - 1} more such files)" if len(problems) > 1 else ""
        raise ValueError(f"{path}: {problems[0].text}{more}")


def _audio_problem(row: int, path: str, samples: int, sample_rate: int) -> Optional[AudioProblem]:
    import numpy
    import soundfile

    if not os.path.isfile(path):
        return AudioProblem(row, f"no audio file {path}", True)
    text = ""
    try:
        info = soundfile.info(path)
        if info.samplerate != sample_rate:
            text = (
                f"has a sample rate of {info.samplerate} Hz, wanted {sample_rate} Hz: resample it"
            )
        elif info.frames != samples:
            text = f"has {info.frames} samples, the manifest says {samples}"
        elif info.subtype in ("FLOAT", "DOUBLE"):
            wave, _ = soundfile.read(path, dtype="float32")
            bad = int((~numpy.isfinite(wave)).sum())
            if bad:
                text = f"has {bad} samples that are NaN or infinite"
    except (RuntimeError, OSError) as error:
        return AudioProblem(row, f"{path} cannot be read: {error}", True)
    return AudioProblem(row, f"{path} {text}", False) if text else None


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes a text file under a temporary name, then renames it: whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
    os.replace(temporary, path)


def write_split(
    data: str, split: str, root: str, entries: Sequence[Tuple[str, int]], transcripts: Sequence[str]
) -> None:
    """Writes `{split}.tsv`, `.wrd` (words) and `.ltr` (letters, `|` after each word)."""
    write_lines(os.path.join(data, f"{split}.wrd"), transcripts)
    write_lines(os.path.join(data, f"{split}.ltr"), map(letters, transcripts))
    rows = (f"{path}\t{samples}" for path, samples in entries)
    write_lines(os.path.join(data, f"{split}.tsv"), [root, *rows])


def letters(transcript: str) -> str:
    """`ONE TWO` -> `O N E | T W O |`."""
    return " ".join("".join(word + "|" for word in transcript.split()))


def write_dictionary(data: str, transcripts: Iterable[str]) -> None:
    """Writes `dict.ltr.txt`: every letter of the transcripts with its count, most first."""
    counts = {}
    for transcript in transcripts:
        for letter in letters(transcript).split():
            counts[letter] = counts.get(letter, 0) + 1
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    write_lines(os.path.join(data, "dict.ltr.txt"), (f"{key} {count}" for key, count in rows))
