#!/usr/bin/env python3
"""Human speech that anyone may download: the telephone prompts of Debian's Asterisk
packages, one speaker, English or Spanish, as a fairseq corpus at 16 kHz.

    python manifests/asterisk.py OUT [--language es] [--unpacked ROOT]

Downloads asterisk-core-sounds-en and asterisk-core-sounds-en-wav (or -es) with `apt-get download`
and unpacks them into OUT, without root. Where that is not possible, unpack them elsewhere
and give that folder (or `/`, if they are installed) as --unpacked.
"""

import argparse
import os
import random

from varan_fairseq.corpora.options import run
from varan_fairseq.data.manifest import (
    split_names,
    write_dictionary,
    write_lexicon,
    write_split,
)
from varan_fairseq.runtime.files import written_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", help="folder for the audio and the manifests")
    parser.add_argument("--language", choices=["en", "es"], default="en")
    parser.add_argument("--unpacked", help="where the packages are unpacked already")
    parser.add_argument("--seed", type=int, default=1, help="of the split")
    args = parser.parse_args()
    import soundfile
    import soxr
    from tqdm import tqdm

    from varan_fairseq.corpora.asterisk import LANGUAGES, RATE, download, read_transcripts

    os.makedirs(args.out, exist_ok=True)
    wanted = LANGUAGES[args.language]
    unpacked = args.unpacked or download(args.out, wanted)
    prompts, dropped = read_transcripts(unpacked, args.language)
    root = os.path.join(os.path.abspath(args.out), "wav")
    rows, seconds = [], 0.0
    for name, transcript in tqdm(prompts, desc="resampling", leave=False):
        wave, rate = soundfile.read(os.path.join(unpacked, wanted.sounds, name + ".wav"))
        wave = soxr.resample(wave, rate, RATE)
        path = os.path.join(root, name + ".wav")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        rows.append((name + ".wav", len(wave), transcript))
        seconds += len(wave) / RATE

    random.Random(args.seed).shuffle(rows)
    tenth = len(rows) // 10
    splits = {"valid": rows[:tenth], "test": rows[tenth : 3 * tenth], "train": rows[3 * tenth :]}
    with written_whole(
        args.out, split_names(splits, ["wrd", "ltr"], "dict.ltr.txt", "lexicon.txt")
    ) as data:
        for split, part in splits.items():
            write_split(data, split, root, [row[:2] for row in part], [row[2] for row in part])
        write_dictionary(data, [row[2] for row in rows])
        write_lexicon(data, [row[2] for row in splits["train"]])
    sizes = ", ".join(f"{len(part)} {split}" for split, part in splits.items())
    print(f"{args.out}: {len(rows)} prompts, {seconds / 60:.1f} minutes ({sizes})")
    for reason, count in dropped.most_common():
        print(f"  dropped {count}: {reason}")


if __name__ == "__main__":
    run(main)
