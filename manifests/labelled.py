"""What the scripts for labelled corpora share: options, resampling, splits, manifests."""

import argparse
import collections
import concurrent.futures
import os
import sys
from typing import Dict, Iterable, List, NamedTuple, NoReturn, Optional, Sequence

import soundfile
import soxr
from tqdm import tqdm

from varan_fairseq.labels import (
    Utterance,
    shared_speaker,
    write_class_dictionary,
    write_labelled_split,
)

RATE = 16000


class Recording(NamedTuple):
    """source: an audio file. name: of its 16 kHz copy, relative to OUT/wav."""

    source: str
    name: str
    label: str
    speaker: Optional[str]


def refuse(text: str) -> NoReturn:
    """Ends the script with one line."""
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


def parser(description: str) -> argparse.ArgumentParser:
    """Source, destination and the options that every corpus has."""
    options = argparse.ArgumentParser(description=description.split("\n\n")[0])
    options.add_argument("source", help="folder of the corpus")
    options.add_argument("out", help="folder for the manifests and the audio at 16 kHz")
    options.add_argument("--labels", default="emo", help="ending of the label files")
    options.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options.add_argument(
        "--max-unreadable",
        type=float,
        default=0.01,
        help="share of the files that may be unreadable; those are named and left out",
    )
    options.add_argument(
        "--allow-incomplete", action="store_true", help="go on with a part of the corpus"
    )
    return options


def add_speaker_options(options: argparse.ArgumentParser, valid: str, test: str) -> None:
    """Which speakers are validation and test; all others train. valid, test: defaults."""
    options.add_argument("--valid", nargs="+", default=valid.split(), help="validation speakers")
    options.add_argument("--test", nargs="+", default=test.split(), help="test speakers")
    options.add_argument(
        "--allow-shared-speakers", action="store_true", help="allow a speaker in two splits"
    )


def check_count(args: argparse.Namespace, what: str, found: int, wanted: int) -> None:
    """Refuses an incomplete corpus, or one that is something else."""
    if found != wanted and (found == 0 or not args.allow_incomplete):
        hint = "" if found == 0 else "; --allow-incomplete goes on with them"
        refuse(f"{args.source}: found {found} {what}, wanted {wanted}{hint}")


def by_speaker(
    args: argparse.Namespace, recordings: Sequence[Recording]
) -> Dict[str, List[Recording]]:
    """Splits by `add_speaker_options`."""
    known = sorted({row.speaker for row in recordings})
    held_out = {}
    for split in ("valid", "test"):
        held_out[split] = {name.zfill(len(known[0])) for name in getattr(args, split)}
        for name in sorted(held_out[split]):
            if name not in known:
                refuse(f"--{split} {name}: no such speaker, there are {', '.join(known)}")
    splits = {
        "train": [
            row for row in recordings if row.speaker not in held_out["valid"] | held_out["test"]
        ]
    }
    for split, speakers in held_out.items():
        splits[split] = [row for row in recordings if row.speaker in speakers]
    return splits


def write_by_speaker(
    args: argparse.Namespace,
    corpus: str,
    recordings: Sequence[Recording],
    wanted: int,
    classes: Sequence[str],
) -> None:
    """All of a corpus that is split by `add_speaker_options`. wanted: recordings it has."""
    check_count(args, f"recordings of {corpus}", len(recordings), wanted)
    splits = by_speaker(args, recordings)
    shared = shared_speaker({name: [row.speaker for row in rows] for name, rows in splits.items()})
    if shared and not args.allow_shared_speakers:
        refuse(f"{shared}: --allow-shared-speakers goes on")
    write(args, args.out, splits, resample(args, recordings), classes)


def resample(args: argparse.Namespace, recordings: Sequence[Recording]) -> Dict[str, int]:
    """Copies recordings to OUT/wav as 16 kHz mono, 16 bits; what is there already stays.
    Returns the samples of each name; unreadable ones are named, and missing."""
    root = audio_root(args.out)
    jobs = {row.name: (row.source, os.path.join(root, row.name)) for row in recordings}
    for folder in {os.path.dirname(target) for _, target in jobs.values()}:
        os.makedirs(folder, exist_ok=True)
    there = sum(os.path.exists(target) for _, target in jobs.values())
    if there:
        print(f"{there} of {len(jobs)} recordings are there already")
    samples, lost = {}, []
    with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        done = pool.map(_resample, jobs.values(), chunksize=16)
        for name, result in zip(jobs, tqdm(done, total=len(jobs), desc="resampling", leave=False)):
            if isinstance(result, int):
                samples[name] = result
            else:
                lost.append(result)
                print(f"cannot be read: {result}")
    if len(lost) > args.max_unreadable * len(jobs):
        refuse(
            f"{len(lost)} of {len(jobs)} recordings cannot be read (--max-unreadable "
            f"{args.max_unreadable} allows {int(args.max_unreadable * len(jobs))}), the first: {lost[0]}"
        )
    return samples


def audio_root(out: str) -> str:
    return os.path.join(os.path.abspath(out), "wav")


def _resample(job):
    """Samples of the copy, or a line that says why there is none."""
    source, target = job
    try:
        if not os.path.exists(target):
            wave, rate = soundfile.read(source, always_2d=True)
            wave = soxr.resample(wave.mean(1), rate, RATE)
            if not len(wave):
                return f"{source}: no samples"
            temporary = f"{target}.{os.getpid()}.tmp"
            soundfile.write(temporary, wave.clip(-1, 1), RATE, subtype="PCM_16", format="WAV")
            os.replace(temporary, target)
        return soundfile.info(target).frames
    except (RuntimeError, OSError) as error:
        return f"{source}: {error}"


def write(
    args: argparse.Namespace,
    data: str,
    splits: Dict[str, Sequence[Recording]],
    samples: Dict[str, int],
    classes: Iterable[str],
) -> None:
    """Manifests, labels, speakers and dictionary of one set of splits, and what they hold."""
    os.makedirs(data, exist_ok=True)
    totals = collections.Counter()
    for split, rows in splits.items():
        utterances = [
            Utterance(row.name, samples[row.name], row.label, row.speaker)
            for row in rows
            if row.name in samples
        ]
        if not utterances:
            refuse(f"{split} is empty")
        write_labelled_split(data, split, args.labels, audio_root(args.out), utterances)
        counts = collections.Counter(row.label for row in utterances)
        totals.update(counts)
        each = ", ".join(f"{counts[name]} {name}" for name in classes)
        minutes = sum(row.samples for row in utterances) / RATE / 60
        print(f"{data}: {split} {len(utterances)} ({each}), {minutes:.1f} minutes")
    write_class_dictionary(data, args.labels, {name: totals[name] for name in classes})
