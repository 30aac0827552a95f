#!/usr/bin/env python3
"""Manifests of 20,000 short files beside fairseq's own script, and varan-check on 10,000 files of
2 s: whole commands, start-up included, files in the system's cache.

    python benchmarks/corpora.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import fairseq
import numpy as np
import soundfile
from measure import write_figures
from tqdm import tqdm

HERE = os.path.dirname(os.path.abspath(__file__))
STOCK = os.path.join(
    os.path.dirname(fairseq.__file__), "examples", "wav2vec", "wav2vec_manifest.py"
)
OURS = os.path.join(HERE, "..", "manifests", "librispeech.py")
FILES, CHECKED = 20000, 10000


def librispeech(root: str) -> None:
    """20,000 files of half a second in LibriSpeech's layout."""
    wave = np.random.default_rng(0).normal(0, 0.1, 8000)
    for chapter in tqdm(range(FILES // 50), desc="corpus"):
        speaker = chapter // 4
        folder = os.path.join(root, "train-clean-100", str(speaker), str(chapter))
        os.makedirs(folder)
        with open(os.path.join(folder, f"{speaker}-{chapter}.trans.txt"), "w") as lines:
            for index in range(50):
                name = f"{speaker}-{chapter}-{index:04d}"
                soundfile.write(os.path.join(folder, f"{name}.flac"), wave, 16000)
                lines.write(f"{name} HELLO WORLD\n")


def corpus(data: str) -> None:
    """10,000 files of 2 s with labels."""
    rng = np.random.default_rng(0)
    os.makedirs(os.path.join(data, "wav"))
    rows = [os.path.join(data, "wav")]
    for index in tqdm(range(CHECKED), desc="corpus"):
        wave = rng.normal(0, 0.1, 32000)
        soundfile.write(os.path.join(data, "wav", f"{index}.wav"), wave, 16000, subtype="PCM_16")
        rows.append(f"{index}.wav\t32000")
    for name, lines in (
        ("train.tsv", rows),
        ("train.ltr", ["O N E |"] * CHECKED),
        ("dict.ltr.txt", ["O 1", "N 1", "E 1", "| 1"]),
    ):
        with open(os.path.join(data, name), "w") as file:
            file.writelines(line + "\n" for line in lines)


def seconds(*command: str) -> float:
    """Median of three runs, after one that fills the cache."""
    took = []
    for _ in range(4):
        start = time.perf_counter()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([sys.executable, "-W", "ignore", *command], check=True, **quiet)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    folder = tempfile.mkdtemp()
    root = os.path.join(folder, "LibriSpeech")
    librispeech(root)
    split = os.path.join(root, "train-clean-100")
    stock = seconds(STOCK, split, "--dest", f"{folder}/stock", "--valid-percent", "0")
    ours = seconds(OURS, root, f"{folder}/ours", "--allow-incomplete")
    corpus(os.path.join(folder, "check"))
    check = seconds("-m", "varan_fairseq.cli.check", os.path.join(folder, "check"))
    rows = [
        {"what": f"fairseq's wav2vec_manifest.py, {FILES} files", "seconds": round(stock, 2)},
        {"what": "manifests/librispeech.py, the same files", "seconds": round(ours, 2)},
        {"what": f"varan-check, {CHECKED} files of 2 s", "seconds": round(check, 2)},
    ]
    for row in rows:
        print(f"{row['what']}: {row['seconds']:.2f} s")
    print(
        f"manifests: {stock / ours:.2f} times as fast (wanted 1.8); varan-check {check:.1f} s "
        "(wanted 20)"
    )
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
