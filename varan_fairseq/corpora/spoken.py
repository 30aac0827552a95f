"""What the scripts for transcribed speech share: headers, splits, manifests, lexicon."""

import argparse
import collections
import os
import random
from dataclasses import dataclass, replace
from typing import Counter, Dict, Iterable, List, Mapping, Optional, Sequence

from ..data.manifest import (
    read_lines,
    split_names,
    write_dictionary,
    write_lexicon,
    write_split,
)
from ..runtime.files import refuse_same, written_whole
from ..runtime.processes import in_processes
from ..runtime.progress import progress
from .labelled import Recording, audio_root, check_split_speakers, resample, split_speakers
from .options import at_least_1, fraction, refuse
from .text import Unusable, apply, named

RATE = 16000
_ENDINGS = ("wrd", "ltr", "spk")  # of a split's files, beside the manifest
_OF_TRAINING = ("dict.ltr.txt", "lexicon.txt")
_CHUNK = 500  # files whose headers a process reads at a time


@dataclass(frozen=True)
class SpokenUtterance:
    """path: relative to the root of its split."""

    path: str
    samples: int
    text: str
    speaker: Optional[str]


def add_header_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--jobs", type=at_least_1, default=os.cpu_count(), help="processes")
    options.add_argument(
        "--allow-incomplete", action="store_true", help="continue with a part of the corpus"
    )


def headers(root: str, paths: Sequence[str], jobs: int, what: str) -> List[int]:
    """Samples of every file, by its header. Ends the script at a file that is not audio at
    16 kHz mono."""
    import soundfile

    chunks = [paths[at : at + _CHUNK] for at in range(0, len(paths), _CHUNK)]

    def read(chunk):
        counts = []
        for path in chunk:
            try:
                with soundfile.SoundFile(os.path.join(root, path)) as file:  # faster than info
                    frames, rate, channels = file.frames, file.samplerate, file.channels
            except (RuntimeError, OSError) as error:
                return f"{os.path.join(root, path)} cannot be read: {error}"
            if (rate, channels) != (RATE, 1):
                return (
                    f"{os.path.join(root, path)} has {rate} Hz and {channels} channels, expected "
                    f"{RATE} Hz and 1"
                )
            counts.append(frames)
        return counts

    samples_of: List[List[int]] = [[]] * len(chunks)
    for index, result in progress(in_processes(read, chunks, jobs), what, len(chunks)):
        if isinstance(result, str):
            refuse(result)
        samples_of[index] = result
    return [samples for chunk in samples_of for samples in chunk]


def librispeech_files(root: str) -> Iterable[str]:
    """Audio below a folder of LibriSpeech's layout, speaker/chapter/file.flac, relative."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        below = os.path.relpath(folder, root)
        for file in sorted(files):
            if file.endswith(".flac") and not file.startswith("."):
                yield os.path.normpath(os.path.join(below, file))


def librispeech_texts(root: str, paths: Sequence[str]) -> List[str]:
    """Of each file, from the `.trans.txt` beside it."""
    texts: Dict[str, Dict[str, str]] = {}
    ordered = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in texts:
            chapter = "-".join(folder.split(os.sep)[-2:])
            texts[folder] = _transcripts(os.path.join(root, folder, f"{chapter}.trans.txt"))
        name = os.path.splitext(name)[0]
        if name not in texts[folder]:
            refuse(f"{os.path.join(root, path)} has no line in the .trans.txt beside it")
        ordered.append(texts[folder][name])
    return ordered


def _transcripts(path: str) -> Dict[str, str]:
    if not os.path.isfile(path):
        refuse(f"no transcripts {path}")
    rows = (line.split() for line in read_lines(path))
    return {row[0]: " ".join(row[1:]) for row in rows if row}


def librispeech_utterances(root: str, jobs: int, what: str) -> List[SpokenUtterance]:
    """All below a folder of LibriSpeech's layout."""
    paths = list(librispeech_files(root))
    texts = librispeech_texts(root, paths)
    samples = headers(root, paths, jobs, what)
    speakers = [path.split(os.sep)[-3] if path.count(os.sep) >= 2 else None for path in paths]
    return [SpokenUtterance(*row) for row in zip(paths, samples, texts, speakers)]


def write_corpus(
    out: str,
    splits: Mapping[str, Sequence[SpokenUtterance]],
    roots: Dict[str, str],
    letters: str = "",
    trains: bool = True,
) -> None:
    """Manifests, labels and speakers of splits, and the dictionary and lexicon of `train`; they
    replace older ones as a whole. roots: audio folder of each. letters: that the dictionary has
    whether they occur or not. trains: whether there is a training split."""
    os.makedirs(out, exist_ok=True)
    names = split_names(splits, _ENDINGS, *(_OF_TRAINING if trains else ()))
    with written_whole(out, names) as data:
        for split, rows in splits.items():
            if not rows:
                refuse(f"{split} is empty")
            entries = [(row.path, row.samples) for row in rows]
            speakers = [row.speaker for row in rows]
            write_split(data, split, roots[split], entries, [row.text for row in rows], speakers)
        if trains:
            texts = [row.text for row in splits["train"]]
            write_dictionary(data, texts, letters)
            write_lexicon(data, texts)
    for split, rows in splits.items():
        hours = sum(row.samples for row in rows) / RATE / 3600
        known = {row.speaker for row in rows} - {None}
        also = f", {len(known)} speakers" if known else ""
        print(f"{out}: {split} {len(rows)} utterances, {hours:.2f} hours{also}")


def add_split_options(options: argparse.ArgumentParser) -> None:
    """How recordings without splits of their own are divided."""
    options.add_argument("--valid", type=fraction, default=0.05, help="share for validation")
    options.add_argument("--test", type=fraction, default=0.05, help="share for testing")
    options.add_argument("--seed", type=int, default=1, help="of the split")


def divide(args: argparse.Namespace, recordings: Sequence[Recording]) -> Dict[str, List[Recording]]:
    """Whole speakers, if all are known, else recordings."""
    shares = {"valid": args.valid, "test": args.test}
    if min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        refuse(f"--valid {args.valid} --test {args.test}: expected shares that leave some to train")
    rng = random.Random(args.seed)
    without = [row for row in recordings if row.speaker is None]
    if not without:
        return split_speakers(recordings, shares, rng)
    if len(without) < len(recordings):
        refuse(
            f"{len(without)} of {len(recordings)} recordings have no speaker, as {without[0].name}: "
            "give each one, or none"
        )
    print("speakers are not known: one may be in training and test")
    rows = list(recordings)
    rng.shuffle(rows)
    splits = {}
    for split, share in shares.items():
        count = max(round(share * len(recordings)), 1)
        splits[split], rows = rows[:count], rows[count:]
    return {"train": rows, **splits}


def clean(
    args: argparse.Namespace, splits: Mapping[str, Sequence[Recording]]
) -> Dict[str, List[Recording]]:
    """Transcripts by the text rules asked for; what has none is dropped, counted and said."""
    dropped: Counter[str] = collections.Counter()
    examples: Dict[str, str] = {}
    kept: Dict[str, List[Recording]] = {}
    for split, rows in splits.items():
        kept[split] = []
        for row in rows:
            try:
                text = apply(row.label, args.text, args.alphabet, args.language)
            except Unusable as unusable:
                dropped[str(unusable)] += 1
                examples.setdefault(str(unusable), row.label)
                continue
            kept[split].append(replace(row, label=text))
    print(named(args.text))
    for reason, count in dropped.most_common():
        print(f"  dropped {count}: {reason} ({examples[reason]!r})")
    return kept


def write_recordings(
    args: argparse.Namespace, splits: Mapping[str, Sequence[Recording]], inputs: Sequence[str]
) -> None:
    """Recordings whose labels are transcripts: cleaned, copied to 16 kHz, written. inputs: files that
    were read, which nothing of this may replace."""
    for name in split_names(splits, _ENDINGS, *_OF_TRAINING):
        refuse_same(os.path.join(args.out, name), *inputs)
    splits = clean(args, splits)
    check_split_speakers(args, splits)
    samples = resample(args, [row for rows in splits.values() for row in rows])
    root = audio_root(args.out)
    utterances = {
        split: [
            SpokenUtterance(row.name, samples[row.name], row.label, row.speaker)
            for row in rows
            if row.name in samples
        ]
        for split, rows in splits.items()
    }
    write_corpus(args.out, utterances, dict.fromkeys(splits, root))
