"""Reading and writing fairseq's manifests.

A split is `{split}.tsv` (the audio folder, then a line `path<TAB>samples` a file) and
`{split}.{labels}` (a line of labels a file, in the same order), beside `dict.{labels}.txt`.
"""

import codecs
import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Sequence, Tuple

from ..runtime.files import write_lines

if TYPE_CHECKING:
    import numpy as np


_MOST_SAMPLES = 2**36  # 50 days at 16 kHz


class DataError(ValueError):
    """A file, or a line of it, that is not as it should be. line: None for all of the file. what:
    found there. wanted: expected instead."""

    def __init__(self, file: str, line: Optional[int], what: str, wanted: str = ""):
        super().__init__(sentence(file, line, what, wanted))
        self.file, self.line, self.what, self.wanted = file, line, what, wanted

    def __reduce__(self) -> Any:
        return DataError, (self.file, self.line, self.what, self.wanted)


def sentence(file: str, line: Optional[int], what: str, wanted: str = "") -> str:
    """One line for a person. file: empty if `what` names it."""
    if file:
        verb = line is None and what.partition(" ")[0] in ("is", "has", "begins")
        where = file if line is None else f"{file}, line {line}"
        what = f"{where} {what}" if verb else f"{where}: {what}"
    return f"{what}: {wanted}" if wanted else what


@dataclass(frozen=True)
class Manifest:
    """root: the audio folder. entries: (path relative to root, number of samples)."""

    root: str
    entries: List[Tuple[str, int]]

    @property
    def samples(self) -> "np.ndarray":
        """Of each recording, [N]."""
        import numpy as np  # scripts that write manifests do without

        return np.array([samples for _, samples in self.entries], dtype=np.int64)


def split_paths(data: str, split: str) -> List[str]:
    """All files of a split that are there, whatever their endings: the manifest, labels, words,
    speakers, and the dictionaries beside them."""
    stem = glob.escape(os.path.join(data, split))
    dictionaries = glob.glob(os.path.join(glob.escape(data), "dict.*.txt"))
    return [*glob.glob(f"{stem}.*"), *dictionaries]


def speakers_path(manifest: str) -> str:
    """The file that may lie beside a manifest, with the speaker of each of its recordings."""
    return os.path.splitext(manifest)[0] + ".spk"


def read_speakers(path: str, count: int) -> Optional[List[str]]:
    """The speakers of `count` recordings; None if there is no such file. Raises ValueError for
    another number of lines."""
    if not os.path.isfile(path):
        return None
    speakers = [line.strip() for line in read_lines(path)]
    check_rows(path, len(speakers), count, "expected one speaker per file")
    return speakers


def check_rows(path: str, lines: int, count: int, wanted: str) -> None:
    """Raises ValueError unless a file beside a manifest of `count` recordings has as many lines."""
    if lines != count:
        what = f"has {lines} lines, its manifest names {count} audio files"
        raise DataError(path, None, what, wanted)


def read_lines(path: str) -> List[str]:
    """The lines of a text file, without their ends and a byte order mark. Raises ValueError,
    naming the line, if it is not UTF-8."""
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise DataError(path, line, what, "save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def refuse_bom(path: str) -> None:
    """Raises ValueError if a file that fairseq reads too begins with a byte order mark, which
    it takes for a part of the first word."""
    with open(path, "rb") as file:
        start = file.read(len(codecs.BOM_UTF8))
    if start == codecs.BOM_UTF8:
        how = f"remove it, by sed -i '1s/^\\xef\\xbb\\xbf//' {path}, say"
        what = "begins with a byte order mark, which fairseq reads as text"
        raise DataError(path, None, what, how)


def read_manifest(path: str) -> Manifest:
    """Reads a `.tsv`. Raises FileNotFoundError or ValueError naming file and line."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no manifest {path}")
    lines = read_lines(path)
    root = lines[0].strip() if lines else ""
    entries = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != 2 or not fields[0].strip() or not fields[1].strip().isdecimal():
            raise DataError(path, number, f"{line!r}, expected path<TAB>number of samples")
        if int(fields[1]) > _MOST_SAMPLES:
            raise DataError(path, number, f"{line!r}: no recording has so many samples")
        entries.append((fields[0], int(fields[1])))
    if not entries:
        raise DataError(path, None, "is empty", f"it names the folder {root!r} and no audio file")
    return Manifest(root, entries)


def write_split(
    data: str,
    split: str,
    root: str,
    entries: Sequence[Tuple[str, int]],
    transcripts: Sequence[str],
    speakers: Optional[Sequence[Optional[str]]] = None,
) -> None:
    """Writes `{split}.tsv`, `.wrd` (words) and `.ltr` (letters, `|` after each word), and, if all
    speakers are known, `.spk`. Raises ValueError for a path that a manifest cannot hold."""
    rows = manifest_rows(root, entries)
    if speakers is not None:
        write_speakers(data, split, speakers)
    write_lines(os.path.join(data, f"{split}.wrd"), transcripts)
    write_lines(os.path.join(data, f"{split}.ltr"), map(letters, transcripts))
    write_lines(os.path.join(data, f"{split}.tsv"), rows)


def write_speakers(data: str, split: str, speakers: Sequence[Optional[str]]) -> None:
    """Writes `{split}.spk`, one speaker per utterance, if all are known; else there is none."""
    path = os.path.join(data, f"{split}.spk")
    known = [speaker for speaker in speakers if speaker is not None]
    if len(known) == len(speakers):
        write_lines(path, known)
    elif os.path.exists(path):
        os.remove(path)


def split_names(splits: Iterable[str], endings: Sequence[str], *others: str) -> List[str]:
    """Files of splits that belong together, for `written_whole`: if they are replaced as one,
    no utterance is ever in two splits."""
    return [*others, *(f"{split}.{ending}" for split in splits for ending in [*endings, "tsv"])]


def manifest_rows(root: str, entries: Iterable[Tuple[str, int]]) -> List[str]:
    """The lines of a `.tsv`. Raises ValueError for a path that one cannot hold."""
    rows = [root, *(f"{path}\t{samples}" for path, samples in entries)]
    for path in [root, *(row.rpartition("\t")[0] for row in rows[1:])]:
        if path != path.strip() or any(char in path for char in "\t\n\r"):
            raise ValueError(
                f"{path!r}: a manifest cannot name it, because of a tab, a line end, or a blank at "
                "its start or end: rename it"
            )
        if any("\ud800" <= char <= "\udfff" for char in path):
            raise ValueError(f"{path!r}: a manifest cannot name it, it is not UTF-8: rename it")
    return rows


def letters(transcript: str) -> str:
    """`ONE TWO` -> `O N E | T W O |`."""
    return " ".join("".join(word + "|" for word in transcript.split()))


def write_dictionary(data: str, transcripts: Iterable[str], alphabet: str = "") -> None:
    """Writes `dict.ltr.txt`: every letter of the transcripts with its count, most first, as
    `fairseq-preprocess` does. alphabet: letters that are there even if none occurs."""
    counts = dict.fromkeys(alphabet, 0)
    for transcript in transcripts:
        for letter in letters(transcript).split():
            counts[letter] = counts.get(letter, 0) + 1
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    write_lines(os.path.join(data, "dict.ltr.txt"), (f"{key} {count}" for key, count in rows))


def write_lexicon(data: str, transcripts: Iterable[str]) -> None:
    """Writes `lexicon.txt`, which a decoder with a language model of words wants: a line
    `word<TAB>letters |` for every word of the transcripts."""
    words = sorted({word for transcript in transcripts for word in transcript.split()})
    write_lines(os.path.join(data, "lexicon.txt"), (f"{word}\t{letters(word)}" for word in words))
