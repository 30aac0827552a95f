#!/usr/bin/env python3
"""EmoDB (Berlin database of emotional speech: 535 recordings, 10 speakers, 7 emotions) as
labelled manifests, split by speaker.

    python manifests/emodb.py SOURCE OUT

SOURCE holds the folder wav of the corpus.
"""

import glob
import os
import re

from varan_fairseq.corpora.labelled import Recording, write_by_speaker
from varan_fairseq.corpora.options import add_speaker_options, parser, run

# The letter of the German word: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
# speaker, text, emotion, version
NAME = re.compile(r"(03|08|09|1[0-6])[ab]\d\d([WLEAFTN])[a-f]\.wav")


def find(source: str):
    """Every recording."""
    for path in sorted(glob.glob(os.path.join(glob.escape(source), "wav", "*.wav"))):
        name = os.path.basename(path)
        code = NAME.fullmatch(name)
        if code:
            yield Recording(path, name, EMOTIONS[code[2]], code[1])


def main() -> None:
    options = parser(__doc__)
    # a man and a woman each
    add_speaker_options(options, valid="12 13", test="15 16")
    args = options.parse_args()
    recordings = list(find(args.source))
    write_by_speaker(args, "EmoDB (wav/*.wav)", recordings, 535, list(EMOTIONS.values()))


if __name__ == "__main__":
    run(main)
