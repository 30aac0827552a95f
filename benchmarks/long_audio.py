#!/usr/bin/env python3
"""An hour in one file: memory, speed, and whether it says what its pieces say.

    python benchmarks/long_audio.py CHECKPOINT DATA SUBSET

The recordings of a split, one after the other and from the start again, until the file is as long
as asked for. Memory: what `varan-transcribe` adds to the loaded model, at a tenth of the length and
at all of it, in fresh processes. The text is compared to that of the recordings themselves.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from typing import List, Tuple

import editdistance
import numpy as np
import soundfile
import torch
from measure import in_fresh_process, peak_megabytes, write_figures

import varan_fairseq
from varan_fairseq.data.manifest import read_manifest

RATE = 16000


def write(path: str, data: str, subset: str, seconds: float) -> Tuple[List[str], float]:
    """Writes the file; returns the recordings in it, and how long it is."""
    manifest = read_manifest(os.path.join(data, f"{subset}.tsv"))
    names, total = [], 0
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for name, samples in itertools.cycle(manifest.entries):
            if total + samples > seconds * RATE and names:
                break
            names.append(os.path.join(manifest.root, name))
            file.write(soundfile.read(names[-1])[0])
            total += samples
    return names, total / RATE


def transcribe(checkpoint: str, path: str):
    """Consumes a recording as varan-transcribe does, utterance by utterance."""
    model = varan_fairseq.load(checkpoint)
    model.transcribe(np.zeros(30 * RATE, np.float32))  # what a window needs is not of the length
    words: List[str] = []

    def work():
        for piece in model.stream([path]):
            if piece.error is not None:
                raise piece.error
            if piece.utterance is not None:
                words.extend(piece.utterance.text.split())

    return work, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("subset", nargs="?")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    if args.memory:  # data is the recording
        print(json.dumps(peak_megabytes(transcribe(args.checkpoint, args.data)[0])))
        return
    folder = tempfile.mkdtemp()
    short, path = os.path.join(folder, "short.wav"), os.path.join(folder, "long.wav")
    write(short, args.data, args.subset, args.seconds / 10)
    names, seconds = write(path, args.data, args.subset, args.seconds)
    memory = [in_fresh_process(__file__, args.checkpoint, each) for each in (short, path)]
    work, words = transcribe(args.checkpoint, path)
    start = time.perf_counter()
    work()
    took = time.perf_counter() - start
    model = varan_fairseq.load(args.checkpoint)
    texts = dict(zip(sorted(set(names)), model.transcribe(sorted(set(names)))))
    expected = " ".join(texts[name] for name in names).split()
    edits = editdistance.eval(words, expected)
    row = {
        "seconds": round(seconds),
        "megabytes_tenth": round(memory[0]),
        "megabytes": round(memory[1]),
        "real_time_factor": round(took / seconds, 4),
        "words": len(expected),
        "other_words": edits,
        "recordings": len(names),
    }
    print(
        f"{seconds:.0f} s of audio in {took:.1f} s (real-time factor {took / seconds:.4f}); memory "
        f"beyond the model {memory[0]:.0f} MB at a tenth, {memory[1]:.0f} MB at all of it; {edits} "
        f"of {len(expected)} words are others than in the {len(names)} recordings alone"
    )
    if args.json:
        write_figures(args.json, [row])


if __name__ == "__main__":
    sys.exit(main())
