"""The telephone prompts of Debian's Asterisk packages."""

import collections
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Dict, List

from num2words import num2words

RATE = 16000
NO_SPEECH = re.compile(r"silence/|.*tone\b|beep")


@dataclass(frozen=True)
class Language:
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
    kept: Dict[str, str] = {}
    dropped: Dict[str, int] = collections.Counter()
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
