#!/usr/bin/env python3
"""Lhotse's cuts as fairseq's manifests, audio written at 16 kHz.

    python manifests/lhotse_cuts.py OUT --train cuts_train.jsonl.gz --valid cuts_dev.jsonl.gz

Needs lhotse. A cut becomes an utterance, with the text and the speaker of its supervisions, in the
order of time.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile

from varan_fairseq.corpora.labelled import (
    Recording,
    audio_root,
    check_names,
    check_split_speakers,
)
from varan_fairseq.corpora.options import add_shared_speakers_option, at_least_1, refuse, run
from varan_fairseq.corpora.spoken import RATE, SpokenUtterance, clean, write_corpus
from varan_fairseq.corpora.text import add_text_options
from varan_fairseq.runtime.files import written
from varan_fairseq.runtime.progress import progress

SPLITS = ("train", "valid", "test")


def read(path: str):
    """Cuts of a file."""
    try:
        from lhotse import CutSet
    except ModuleNotFoundError:
        refuse("this needs lhotse: pip install lhotse")
    if not os.path.isfile(path):
        refuse(f"no cuts {path}")
    return list(CutSet.from_file(path))


def recording(cut) -> Recording:
    """Its source is the cut."""
    supervisions = sorted(cut.supervisions, key=lambda part: part.start)
    for part in supervisions:
        if part.end <= 0 or part.start >= cut.duration:
            refuse(
                f"cut {cut.id}: supervision {part.id} is from {part.start:g} to {part.end:g} s of it, "
                f"and it has {cut.duration:g} s"
            )
    texts = [part.text for part in supervisions if part.text]
    speakers = {part.speaker for part in supervisions if part.speaker}
    speaker = speakers.pop() if len(speakers) == 1 else None
    name = cut.id.replace(os.sep, "_") + ".wav"
    return Recording(cut, name, " ".join(texts), speaker)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("out", help="folder for the manifests and the audio at 16 kHz")
    for split in SPLITS:
        options.add_argument(f"--{split}", required=split == "train", help="a file of cuts")
    options.add_argument("--jobs", type=at_least_1, default=os.cpu_count(), help="threads")
    add_text_options(options)
    add_shared_speakers_option(options)
    args = options.parse_args()
    paths = {split: getattr(args, split) for split in SPLITS if getattr(args, split)}
    splits = {split: [recording(cut) for cut in read(path)] for split, path in paths.items()}
    rows = [row for each in splits.values() for row in each]
    if len({row.name for row in rows}) < len(rows):
        refuse("two cuts have one id")
    check_names(rows)
    splits = clean(args, splits)
    check_split_speakers(args, splits)
    root = audio_root(args.out)
    os.makedirs(root, exist_ok=True)

    def write(row: Recording) -> int:
        path = os.path.join(root, row.name)
        try:
            wave = row.source.resample(RATE).load_audio()
        except Exception as error:  # lhotse and its backends raise what they like
            refuse(f"cut {row.name[:-4]}: {str(error).strip().splitlines()[-1]}")
        wave = np.asarray(wave, np.float32).mean(0).clip(-1, 1)
        with written(path, durable=False) as temporary:
            soundfile.write(temporary, wave, RATE, subtype="PCM_16", format="WAV")
        return len(wave)

    rows = [row for each in splits.values() for row in each]
    with ThreadPoolExecutor(args.jobs) as pool:
        samples = dict(
            zip((row.name for row in rows), progress(pool.map(write, rows), "cuts", len(rows)))
        )
    utterances = {
        split: [
            SpokenUtterance(row.name, samples[row.name], row.label, row.speaker) for row in each
        ]
        for split, each in splits.items()
    }
    write_corpus(args.out, utterances, dict.fromkeys(splits, root))


if __name__ == "__main__":
    run(main)
