"""What the scripts for labelled corpora share: resampling, splits, manifests."""

import argparse
import collections
import concurrent.futures
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ..data.labels import (
    LabelledUtterance,
    shared_speaker,
    write_class_dictionary,
    write_labelled_split,
)
from ..data.manifest import split_names
from ..runtime.files import written, written_whole
from ..runtime.progress import progress
from .options import refuse

RATE = 16000


@dataclass(frozen=True)
class Recording:
    """source: an audio file. name: of its 16 kHz copy, relative to OUT/wav. label: its class, or
    its transcript. start, end: seconds of the source, if it is a part of it."""

    source: str
    name: str
    label: str
    speaker: Optional[str]
    start: float = 0.0
    end: Optional[float] = None


def check_count(args: argparse.Namespace, what: str, count: int, wanted: int) -> None:
    """Refuses an incomplete corpus, or one that is something else."""
    if count != wanted and (count == 0 or not args.allow_incomplete):
        hint = "" if count == 0 else "; --allow-incomplete goes on with them"
        refuse(f"{args.source}: found {count} {what}, wanted {wanted}{hint}")


def by_speaker(
    args: argparse.Namespace, recordings: Sequence[Recording]
) -> Dict[str, List[Recording]]:
    """Splits by `add_speaker_options`."""
    known: List[Any] = sorted({row.speaker for row in recordings if row.speaker})
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
    check_split_speakers(args, splits)
    write(args, args.out, splits, resample(args, recordings), classes)


def check_split_speakers(
    args: argparse.Namespace, splits: Mapping[str, Sequence[Recording]]
) -> None:
    """Refuses a speaker in two splits."""
    speakers = {
        name: [row.speaker for row in rows if row.speaker is not None]
        for name, rows in splits.items()
    }
    shared = shared_speaker(speakers)
    if shared and not args.allow_shared_speakers:
        refuse(f"{shared}: --allow-shared-speakers goes on")


def split_speakers(recordings, shares, rng):
    """Whole speakers, until each split has its share of the utterances."""
    speakers = collections.Counter(row.speaker for row in recordings)
    if len(speakers) < 1 + len(shares):
        refuse(f"{len(speakers)} speakers cannot be in {1 + len(shares)} splits")
    order = sorted(speakers)
    rng.shuffle(order)
    where = {}
    for split, share in shares.items():
        held = 0
        while held < share * len(recordings) and len(order) > 1:
            where[order[-1]] = split
            held += speakers[order.pop()]
    splits = {"train": [], **{split: [] for split in shares}}
    for row in recordings:
        splits[where.get(row.speaker, "train")].append(row)
    return splits


def resample(args: argparse.Namespace, recordings: Sequence[Recording]) -> Dict[str, int]:
    """Copies recordings to OUT/wav as 16 kHz mono, 16 bits; a copy that has the time of its
    source stays. Returns the samples of each name; unreadable ones are named, and missing."""
    root = audio_root(args.out)
    jobs = {row.name: (row, os.path.join(root, row.name)) for row in recordings}
    for folder in {os.path.dirname(target) for _, target in jobs.values()}:
        os.makedirs(folder, exist_ok=True)
    copied = sum(_is_copy(row.source, target) for row, target in jobs.values())
    if copied:
        print(f"{copied} of {len(jobs)} recordings are there already")
    samples, lost = {}, []
    # threads, since reading and resampling leave Python alone, and none outlives this process
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(_resample, jobs.values())
        for name, result in zip(jobs, progress(done, "resampling", len(jobs))):
            if isinstance(result, int):
                samples[name] = result
            else:
                lost.append(result)
                print(f"cannot be read: {result}")
    if len(lost) > args.max_unreadable * len(jobs):
        refuse(
            f"{len(lost)} of {len(jobs)} recordings cannot be read (--max-unreadable "
            f"{args.max_unreadable} allows {int(args.max_unreadable * len(jobs))}), the first: "
            f"{lost[0]}"
        )
    return samples


def audio_root(out: str) -> str:
    return os.path.join(os.path.abspath(out), "wav")


def _is_copy(source: str, target: str) -> bool:
    """Whether there is a copy of the source as it is now."""
    return (
        os.path.isfile(target)
        and os.path.isfile(source)
        and os.stat(target).st_mtime_ns == os.stat(source).st_mtime_ns
    )


def _resample(job):
    """Samples of the copy, or a line that says why there is none."""
    import numpy as np
    import soundfile
    import soxr

    recording, target = job
    source, start, end = recording.source, recording.start, recording.end
    try:
        if not os.path.isfile(source):
            return f"{source}: no regular file"
        if not _is_copy(source, target):
            rate = soundfile.info(source).samplerate
            frames = -1 if end is None else round((end - start) * rate)
            if start < 0 or frames < -1:
                return f"{source}: no audio from {start} to {end} s"
            options = {"always_2d": True, "start": round(start * rate), "frames": frames}
            wave, _ = soundfile.read(source, **options)
            if len(wave) < frames:
                return f"{source}: ends before {end} s"
            bad = int((~np.isfinite(wave)).sum())
            if bad:
                return f"{source}: {bad} samples are NaN or infinite"
            wave = soxr.resample(wave.mean(1), rate, RATE)
            if not len(wave):
                return f"{source}: no samples"
            with written(target, durable=False) as temporary:
                soundfile.write(temporary, wave.clip(-1, 1), RATE, subtype="PCM_16", format="WAV")
                state = os.stat(source)
                os.utime(temporary, ns=(state.st_atime_ns, state.st_mtime_ns))
        return soundfile.info(target).frames
    except (RuntimeError, OSError) as error:
        return f"{source}: {error}"


def write(
    args: argparse.Namespace,
    data: str,
    splits: Mapping[str, Sequence[Recording]],
    samples: Dict[str, int],
    classes: Iterable[str],
) -> None:
    """Manifests, labels, speakers and dictionary of one set of splits, and what they hold; they
    replace older ones as a whole, so that no speaker is ever on both sides."""
    names = split_names(splits, [args.labels, "spk"], f"dict.{args.labels}.txt")
    with written_whole(data, names) as partial:
        _write(args, data, partial, splits, samples, classes)


def _write(args, data, partial, splits, samples, classes) -> None:
    totals: Dict[str, int] = collections.Counter()
    for split, rows in splits.items():
        utterances = [
            LabelledUtterance(row.name, samples[row.name], row.label, row.speaker)
            for row in rows
            if row.name in samples
        ]
        if not utterances:
            refuse(f"{split} is empty")
        write_labelled_split(partial, split, args.labels, audio_root(args.out), utterances)
        counts = collections.Counter(row.label for row in utterances)
        totals.update(counts)
        shown = ", ".join(f"{counts[name]} {name}" for name in classes)
        minutes = sum(row.samples for row in utterances) / RATE / 60
        print(f"{data}: {split} {len(utterances)} ({shown}), {minutes:.1f} minutes")
    write_class_dictionary(partial, args.labels, {name: totals[name] for name in classes})
