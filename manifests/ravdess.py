#!/usr/bin/env python3
"""RAVDESS (speech, audio only: 1440 recordings, 24 actors) as labelled manifests, split by
actor.

    python manifests/ravdess.py SOURCE OUT [--classes 7]

SOURCE holds Actor_01 .. Actor_24, as the archive Audio_Speech_Actors_01-24.zip unpacks. With
--classes 7, neutral and calm are one class, as in the paper's experiments.
"""

import glob
import os
import re

from varan_fairseq.corpora.labelled import Recording, write_by_speaker
from varan_fairseq.corpora.options import add_speaker_options, parser, run

EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
# modality (03: audio only), channel (01: speech), emotion, intensity, statement, repetition, actor
NAME = re.compile(r"03-01-(0[1-8])-0[12]-0[12]-0[12]-(\d\d)\.wav")


def find(source: str, classes: int):
    """Every recording, under the name of its actor's folder."""
    for path in sorted(glob.glob(os.path.join(glob.escape(source), "Actor_*", "*.wav"))):
        folder, name = path.split(os.sep)[-2:]
        code = NAME.fullmatch(name)
        if code and folder == f"Actor_{code[2]}":
            label = EMOTIONS[int(code[1]) - 1]
            if classes == 7 and label == "calm":
                label = "neutral"
            yield Recording(path, f"{folder}/{name}", label, code[2])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--classes", type=int, choices=[7, 8], default=8)
    add_speaker_options(options, valid="19 20", test="21 22 23 24")
    args = options.parse_args()
    classes = [name for name in EMOTIONS if args.classes == 8 or name != "calm"]
    recordings = list(find(args.source, args.classes))
    write_by_speaker(args, "RAVDESS (Actor_*/03-01-*.wav)", recordings, 1440, classes)


if __name__ == "__main__":
    run(main)
