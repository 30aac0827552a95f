#!/usr/bin/env python3
"""IEMOCAP as labelled manifests of five folds: 5531 utterances, four classes (angry, happy
with excited, sad, neutral), leave one session out.

    python manifests/iemocap.py SOURCE OUT

SOURCE is IEMOCAP_full_release, with Session1 .. Session5. Labels are those of the files in
dialog/EmoEvaluation. Writes OUT/fold1 .. OUT/fold5: session k is the test set of fold k, the
woman of the session after it validation, the other speakers train.
"""

import glob
import os
import re

from varan_fairseq.corpora.labelled import Recording, check_count, resample, write
from varan_fairseq.corpora.options import parser, refuse, run

CLASSES = {"ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral"}
SESSIONS = range(1, 6)
# [start - end] <tab> turn <tab> label <tab> [valence, activation, dominance]
TURN = re.compile(r"\[[\d. ]+-[\d. ]+\]\t((Ses0([1-5])[FM]_\w+)_([FM])\w*)\t(\w+)\t\[.*")


def find(source: str):
    """Every utterance of the four classes, in all sessions."""
    for session in SESSIONS:
        root = os.path.join(source, f"Session{session}")
        pattern = os.path.join(glob.escape(root), "dialog", "EmoEvaluation", "Ses*.txt")
        files = sorted(glob.glob(pattern))
        if not files:
            refuse(f"no {pattern}: {source} is not IEMOCAP_full_release")
        for file in files:
            with open(file, encoding="latin-1") as lines:
                turns = [TURN.match(line) for line in lines]
            if not any(turns):
                refuse(f"{file} has no line `[start - end] turn label`: not IEMOCAP's")
            for turn in filter(None, turns):
                if turn[5] not in CLASSES:
                    continue
                name = f"{turn[2]}/{turn[1]}.wav"
                path = os.path.join(root, "sentences", "wav", name)
                if not os.path.isfile(path):
                    refuse(f"{file} names {turn[1]}, but there is no {path}: incomplete")
                yield Recording(path, name, CLASSES[turn[5]], f"Ses0{session}{turn[4]}")


def fold(recordings, session: int):
    """train, valid and test of the fold that leaves this session out."""
    woman = f"Ses0{session % len(SESSIONS) + 1}F"
    splits = {"train": [], "valid": [], "test": []}
    for row in recordings:
        if row.speaker.startswith(f"Ses0{session}"):
            splits["test"].append(row)
        else:
            splits["valid" if row.speaker == woman else "train"].append(row)
    return splits


def main() -> None:
    args = parser(__doc__).parse_args()
    recordings = list(find(args.source))
    check_count(args, "utterances of the four classes of IEMOCAP", len(recordings), 5531)
    samples = resample(args, recordings)
    for session in SESSIONS:
        data = os.path.join(args.out, f"fold{session}")
        write(args, data, fold(recordings, session), samples, dict.fromkeys(CLASSES.values()))


if __name__ == "__main__":
    run(main)
