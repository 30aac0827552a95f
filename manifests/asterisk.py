#!/usr/bin/env python3
"""Human speech that anyone may download: the telephone prompts of Debian's Asterisk
packages, one speaker, English or Spanish, as a fairseq corpus at 16 kHz.

    python manifests/asterisk.py OUT [--language es] [--unpacked ROOT]

Downloads asterisk-core-sounds-en and asterisk-core-sounds-en-wav (or -es) with `apt-get download`
and unpacks them into OUT, without root. Where that is not possible, unpack them elsewhere
and give that folder (or `/`, if they are installed) as --unpacked.
"""

import argparse
import collections
import glob
import gzip
import os
import random
import re
import shutil
import subprocess
import sys
from typing import Dict, List, NamedTuple

import soundfile
import soxr
from num2words import num2words
from tqdm import tqdm

from varan_fairseq.data.manifest import (
    split_names,
    write_dictionary,
    write_lexicon,
    write_split,
)
from varan_fairseq.runtime.files import written_whole

RATE = 16000
NO_SPEECH = re.compile(r"silence/|.*tone\b|beep")


class Language(NamedTuple):
    """packages: Debian's. transcripts, sounds: of them. spoken: how signs are read."""

    packages: List[str]
    transcripts: str
    sounds: str
    spoken: Dict[str, str]


def language(code: str, voice: str, spoken: Dict[str, str]) -> Language:
    package = f"asterisk-core-sounds-{code}"
    return Language(
        [package, f"{package}-wav"],
        f"usr/share/doc/{package}/core-sounds-{code}.txt.gz",
        f"usr/share/asterisk/sounds/{voice}",
        {"-": " ", **spoken},
    )


LANGUAGES = {
    "en": language("en", "en_US_f_Allison", {"*": " star ", "#": " pound ", "&": " and "}),
    "es": language("es", "es_MX_f_Allison", {"¿": " ", "¡": " "}),
}


def download(out: str, wanted: Language) -> str:
    """Downloads and unpacks the packages; returns the folder they are unpacked into."""
    unpacked = os.path.join(out, "debian")
    if os.path.isfile(os.path.join(unpacked, wanted.transcripts)):
        return unpacked
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            sys.exit(
                f"asterisk.py: no {tool} here. Get the Debian packages "
                f"{' and '.join(wanted.packages)}, unpack them (a .deb is an ar archive with "
                "data.tar inside) and pass --unpacked"
            )
    partial = unpacked + ".partial"
    os.makedirs(partial, exist_ok=True)
    result = subprocess.run(["apt-get", "download", *wanted.packages], cwd=partial)
    if result.returncode:
        sys.exit("asterisk.py: apt-get cannot download the packages: run apt-get update first")
    for package in glob.glob(os.path.join(partial, "*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, partial], check=True)
    os.rename(partial, unpacked)
    return unpacked


def normalise(text: str, code: str = "en") -> str:
    """Words in capitals, numbers spelled out. ValueError, with the reason, for text whose
    spoken form is not certain."""
    if re.search(r"[\[\](){}<>]", text):
        raise ValueError("carries brackets")
    if re.search(r"\d{3}", text):
        raise ValueError("a number with more than one reading")
    if code == "en":
        text = re.sub(r"(?<=\w)\.(?=\w)", " dot ", text)
    text = re.sub(r"\d+", lambda digits: f" {num2words(int(digits[0]), lang=code)} ", text)
    for sign, words in LANGUAGES[code].spoken.items():
        text = text.replace(sign, words)
    text = re.sub(r"[.,;:!?\"]", " ", text).upper()
    strange = {char for char in text if not (char.isalpha() or char in "' ")}
    if strange:
        raise ValueError(f"no spoken form for {' '.join(sorted(strange))}")
    if not text.strip():
        raise ValueError("no words")
    return " ".join(text.split())


def read_transcripts(unpacked: str, code: str):
    """(name, transcript) of every usable prompt, and a count of what was dropped, by reason."""
    path = os.path.join(unpacked, LANGUAGES[code].transcripts)
    if not os.path.isfile(path):
        sys.exit(f"asterisk.py: no {path}: is {unpacked} where the packages were unpacked?")
    kept, dropped = {}, collections.Counter()
    sounds = os.path.join(unpacked, LANGUAGES[code].sounds)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(";") or ":" not in line:
                continue
            name, text = (part.strip() for part in line.split(":", 1))
            if NO_SPEECH.match(name):
                dropped["no speech"] += 1
                continue
            try:
                transcript = normalise(text, code)
            except ValueError as reason:
                dropped[str(reason)] += 1
                continue
            if not os.path.isfile(os.path.join(sounds, name + ".wav")):
                dropped["no recording"] += 1
                continue
            kept[name] = transcript
    return sorted(kept.items()), dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", help="folder for the audio and the manifests")
    parser.add_argument("--language", choices=list(LANGUAGES), default="en")
    parser.add_argument("--unpacked", help="where the packages are unpacked already")
    parser.add_argument("--seed", type=int, default=1, help="of the split")
    args = parser.parse_args()

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
    main()
