#!/usr/bin/env python3
"""Lhotse's cuts as fairseq's manifests, audio written at 16 kHz.

    python manifests/lhotse_cuts.py OUT --train cuts_train.jsonl.gz --valid cuts_dev.jsonl.gz

Needs lhotse. A cut becomes an utterance, with the text and the speaker of its supervisions.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile

from varan_fairseq.corpora.labelled import Recording, audio_root
from varan_fairseq.corpora.options import at_least_1, refuse
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
    texts = [each.text for each in cut.supervisions if each.text]
    speakers = {each.speaker for each in cut.supervisions if each.speaker}
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
    args = options.parse_args()
    paths = {split: getattr(args, split) for split in SPLITS if getattr(args, split)}
    splits = {split: [recording(cut) for cut in read(path)] for split, path in paths.items()}
    rows = [row for each in splits.values() for row in each]
    if len({row.name for row in rows}) < len(rows):
        refuse("two cuts have one id")
    splits = clean(args, splits)
    root = audio_root(args.out)
    os.makedirs(root, exist_ok=True)

    def write(row: Recording) -> int:
        path = os.path.join(root, row.name)
        wave = row.source.resample(RATE).load_audio()
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
    main()
