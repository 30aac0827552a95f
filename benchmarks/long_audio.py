#!/usr/bin/env python3
"""An hour in one file: memory, speed, and whether it says what its pieces say.

    python manifests/digits.py work/long/data --phrases 6 --train 1500 --valid 40
    fairseq-hydra-train --config-dir examples/demo --config-name finetune \\
        task.data=work/long/data model.w2v_path=work/demo/pretrain_hubert/checkpoint_last.pt \\
        checkpoint.save_dir=work/long/run optimization.max_update=1000 dataset.max_tokens=800000
    python benchmarks/long_audio.py work/long/run/checkpoint_last.pt

The hour is of digit strings with pauses, a quarter by each of the test voices; its pieces are the
same audio cut in its pauses. Memory: what `varan-transcribe` adds to the loaded model, at a tenth
of the length and at all of it, in fresh processes, medians of three.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from typing import Iterator, List, NamedTuple, Tuple

import editdistance
import numpy as np
import soundfile
import torch
from measure import cores, in_fresh_process, peak_megabytes, write_figures
from tqdm import tqdm

import varan_fairseq
from varan_fairseq.corpora.digits import PAUSE, RATE, VOICES, speak
from varan_fairseq.corpora.espeak import Espeak

PHRASES = 6


class Recording(NamedTuple):
    """ends: of its pieces, in samples. words: of all."""

    path: str
    ends: List[int]
    words: List[str]

    def pieces(self) -> Iterator[np.ndarray]:
        for start, end in zip([0, *self.ends], self.ends):
            yield soundfile.read(self.path, start=start, stop=end, dtype="float32")[0]


def record(path: str, seconds: float) -> Recording:
    """Writes a recording of about that length."""
    espeak, rng, noise = Espeak(), random.Random(1), np.random.default_rng(1)
    ends: List[int] = []
    words: List[str] = []
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for number, voice in enumerate(tqdm(VOICES["test"], "speaking", leave=False), start=1):
            while file.tell() < number / len(VOICES["test"]) * seconds * RATE:
                said, wave = speak(espeak, rng, [voice], PHRASES)
                wave = np.pad(wave, [int(rng.uniform(*PAUSE) / 2 * RATE) for _ in range(2)])
                file.write(np.clip(wave + noise.normal(0, 0.003, len(wave)), -1, 1))
                ends.append(file.tell())
                words += said
    return Recording(path, ends, words)


def transcription(checkpoint: str, path: str):
    """(a function that consumes a recording as varan-transcribe does, utterance by utterance;
    the words that it has found)."""
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


def texts(checkpoint: str, recording: Recording) -> Tuple[List[str], List[str], float]:
    """(words of the whole, words of its pieces, seconds that the whole took)."""
    work, whole = transcription(checkpoint, recording.path)
    start = time.perf_counter()
    work()
    took = time.perf_counter() - start
    pieces = varan_fairseq.load(checkpoint).transcribe(list(recording.pieces()))
    return whole, " ".join(pieces).split(), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("recording", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    if args.memory:
        print(json.dumps(peak_megabytes(transcription(args.checkpoint, args.recording)[0])))
        return
    folder = tempfile.mkdtemp()
    short = record(os.path.join(folder, "short.wav"), args.seconds / 10)
    long = record(os.path.join(folder, "long.wav"), args.seconds)
    memory = [
        statistics.median(in_fresh_process(__file__, args.checkpoint, path) for _ in range(3))
        for path in (short.path, long.path)
    ]
    whole, pieces, took = texts(args.checkpoint, long)
    seconds = long.ends[-1] / RATE
    row = {
        "seconds": round(seconds),
        "megabytes_tenth": round(memory[0]),
        "megabytes": round(memory[1]),
        "real_time_factor": round(took / seconds, 4),
        "pieces": len(long.ends),
        "words": len(pieces),
        "other_words": editdistance.eval(whole, pieces),
        "wer_whole": round(100 * editdistance.eval(whole, long.words) / len(long.words), 2),
        "wer_pieces": round(100 * editdistance.eval(pieces, long.words) / len(long.words), 2),
    }
    print(
        f"{seconds:.0f} s of audio in {took:.1f} s (real-time factor {took / seconds:.4f}); memory "
        f"beyond the model {memory[0]:.0f} MB at a tenth, {memory[1]:.0f} MB at all of it; "
        f"{row['other_words']} of {row['words']} words are others than in its {row['pieces']} "
        f"pieces; WER {row['wer_whole']}%, in pieces {row['wer_pieces']}%"
    )
    if args.json:
        write_figures(args.json, [row])


if __name__ == "__main__":
    main()
