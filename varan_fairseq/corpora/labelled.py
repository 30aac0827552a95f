"""What the scripts for labelled corpora share: resampling, splits, manifests."""

import argparse
import collections
import concurrent.futures
import hashlib
import io
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

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
OVERSHOOT = 0.5  # seconds that an end may lie behind the audio, as Kaldi allows


@dataclass(frozen=True)
class Recording:
    """source: an audio file. name: of its 16 kHz copy, relative to OUT/wav. label: its class, or
    its transcript. start, end: seconds of the source, if it is a part of it. channel: the one of the
    source that it is of, counted from 0; None for the mean of all. A source of one channel is that
    channel."""

    source: str
    name: str
    label: str
    speaker: Optional[str]
    start: float = 0.0
    end: Optional[float] = None
    channel: Optional[int] = None


def check_count(args: argparse.Namespace, what: str, count: int, wanted: int) -> None:
    """Refuses an incomplete corpus, or one that is something else."""
    if count != wanted and (count == 0 or not args.allow_incomplete):
        hint = "" if count == 0 else "; pass --allow-incomplete to continue with them"
        refuse(f"{args.source}: found {count} {what}, expected {wanted}{hint}")


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
        refuse(f"{shared}: pass --allow-shared-speakers to continue")


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


def check_names(recordings: Sequence[Recording]) -> None:
    """Refuses names that two recordings share, or that lead out of the folder of the copies."""
    seen: Dict[str, Recording] = {}
    for row in recordings:
        if seen.setdefault(row.name, row) is not row:
            refuse(f"{row.source} and {seen[row.name].source} would both become {row.name}")
        path = os.path.normpath(row.name)
        if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
            refuse(f"{row.name!r} leads out of the folder of the copies: expected a path below it")


def resample(args: argparse.Namespace, recordings: Sequence[Recording]) -> Dict[str, int]:
    """Copies recordings to OUT/wav as 16 kHz mono, 16 bits; a copy that was made of the same part
    of the same file stays. Returns the samples of each name; unreadable ones are named, and
    missing."""
    check_names(recordings)
    root = audio_root(args.out)
    jobs = {row.name: (row, os.path.join(root, row.name)) for row in recordings}
    for folder in {os.path.dirname(target) for _, target in jobs.values()}:
        os.makedirs(folder, exist_ok=True)
    samples, lost, there, cut = {}, [], 0, []
    # threads, since reading and resampling leave Python alone, and none outlives this process
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(_copy, jobs.values())
        try:
            for name, result in zip(jobs, progress(done, "resampling", len(jobs))):
                if isinstance(result, str):
                    lost.append(result)
                    print(f"cannot be read: {result}")
                    continue
                samples[name] = result.samples
                there += result.there
                cut += [name] * result.cut
        except OSError as error:  # of writing
            pool.shutdown(wait=False)
            refuse(f"{error.filename or root} cannot be written: {error.strerror or error}")
    if there:
        print(f"{there} of {len(jobs)} recordings are there already")
    if cut:
        print(f"{len(cut)} ends lie up to {OVERSHOOT:g} s behind their audio, as that of {cut[0]}")
    if len(lost) > args.max_unreadable * len(jobs):
        refuse(
            f"{len(lost)} of {len(jobs)} recordings cannot be read (--max-unreadable "
            f"{args.max_unreadable} allows {int(args.max_unreadable * len(jobs))}), the first: "
            f"{lost[0]}"
        )
    return samples


def audio_root(out: str) -> str:
    return os.path.join(os.path.abspath(out), "wav")


@dataclass(frozen=True)
class _Copied:
    """there: it was before. cut: its end lay behind that of its source."""

    samples: int
    there: bool
    cut: bool


def _copy(job: Tuple[Recording, str]) -> Union[_Copied, str]:
    """What was copied, or a line that says why nothing was. Raises OSError if the copy cannot be
    written."""
    import soundfile
    import soxr

    from ..data.audio import LEAST_RATE

    recording, target = job
    where = recording.source
    if recording.end is not None:
        where += f" ({recording.name})"
    try:
        if not os.path.isfile(recording.source):
            return f"{recording.source}: no regular file"
        made_of = _made_of(recording)
        samples = _samples_of_copy(target, made_of)
        with soundfile.SoundFile(recording.source) as file:
            start, end, rate = recording.start, recording.end, file.samplerate
            seconds = file.frames / rate
            cut = end is not None and seconds < end <= seconds + OVERSHOOT
            if rate < LEAST_RATE:
                return f"{where}: a sample rate of {rate} Hz, expected {LEAST_RATE} Hz or more"
            if samples is not None:
                return _Copied(samples, True, cut)
            if end is not None and end > seconds + OVERSHOOT:
                return f"{where}: ends at {seconds:.3f} s, before {end:g} s"
            if start >= (seconds if end is None else end):
                return f"{where}: no audio from {start:g} s"
            if file.channels > 1 and not (recording.channel or 0) < file.channels:
                return f"{where}: no channel {recording.channel}, it has {file.channels}"
            if start:
                file.seek(round(start * rate))
            frames = -1 if end is None or cut else round((end - start) * rate)
            wave = file.read(frames, always_2d=True)
        bad = int((wave != wave).sum() + (abs(wave) == float("inf")).sum())
        if bad:
            return f"{where}: {bad} samples are NaN or infinite"
        side = None if file.channels == 1 else recording.channel
        wave = soxr.resample(wave.mean(1) if side is None else wave[:, side], rate, RATE)
    except (RuntimeError, OSError) as error:
        return f"{recording.source}: {error}"
    if not len(wave):
        return f"{where}: no samples"
    content = io.BytesIO()  # libsndfile does not say why it cannot write a file
    with soundfile.SoundFile(content, "w", RATE, 1, "PCM_16", format="WAV") as copy:
        copy.comment = made_of
        copy.write(wave.clip(-1, 1))
    with written(target, durable=False) as temporary:
        with open(temporary, "wb") as file:
            file.write(content.getvalue())
    return _Copied(len(wave), False, cut)


def _made_of(recording: Recording) -> str:
    """What a copy says of its source, in the comment of its header: a digest, since a path is
    nobody's business."""
    state = os.stat(recording.source)
    times = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    part = [recording.start, recording.end, recording.channel]
    key = json.dumps([os.path.abspath(recording.source), times, part]).encode()
    return f"varan_fairseq copy {hashlib.sha256(key).hexdigest()}"


def _samples_of_copy(target: str, made_of: str) -> Optional[int]:
    """None unless there is a copy that was made of this."""
    import soundfile

    if not os.path.isfile(target):
        return None
    try:
        with soundfile.SoundFile(target) as copy:
            return copy.frames if copy.comment == made_of else None
    except (RuntimeError, OSError):
        return None


def copied_utterances(
    split: str, rows: Sequence[Recording], samples: Dict[str, int]
) -> List[LabelledUtterance]:
    """Those that could be read."""
    utterances = [
        LabelledUtterance(row.name, samples[row.name], row.label, row.speaker)
        for row in rows
        if row.name in samples
    ]
    if not utterances:
        refuse(f"{split} is empty")
    return utterances


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
        utterances = copied_utterances(split, rows, samples)
        write_labelled_split(partial, split, args.labels, audio_root(args.out), utterances)
        counts = collections.Counter(row.label for row in utterances)
        totals.update(counts)
        shown = ", ".join(f"{counts[name]} {name}" for name in classes)
        minutes = sum(row.samples for row in utterances) / RATE / 60
        print(f"{data}: {split} {len(utterances)} ({shown}), {minutes:.1f} minutes")
    write_class_dictionary(partial, args.labels, {name: totals[name] for name in classes})
