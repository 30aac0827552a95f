#!/usr/bin/env python3
"""CREMA-D (7442 recordings, 91 actors, 6 emotions) as labelled manifests, split by actor.

    python manifests/cremad.py SOURCE OUT

SOURCE holds the folder AudioWAV of the corpus. One published file, 1076_MTI_SAD_XX.wav, has
no audio: it is named and left out.
"""

import glob
import os
import re

from varan_fairseq.corpora.labelled import Recording, write_by_speaker
from varan_fairseq.corpora.options import add_speaker_options, parser, run

EMOTIONS = ["ang", "dis", "fea", "hap", "neu", "sad"]
# actor, sentence, emotion, intensity
NAME = re.compile(r"(1\d{3})_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)\.wav")


def find(source: str):
    """Every recording."""
    for path in sorted(glob.glob(os.path.join(glob.escape(source), "AudioWAV", "*.wav"))):
        name = os.path.basename(path)
        code = NAME.fullmatch(name)
        if code:
            yield Recording(path, name, code[2].lower(), code[1])


def main() -> None:
    options = parser(__doc__)
    # the last 19 actors are test, the 9 before them validation
    last = [str(actor) for actor in range(1064, 1092)]
    add_speaker_options(options, valid=" ".join(last[:9]), test=" ".join(last[9:]))
    args = options.parse_args()
    write_by_speaker(args, "CREMA-D (AudioWAV/*.wav)", list(find(args.source)), 7442, EMOTIONS)


if __name__ == "__main__":
    run(main)
