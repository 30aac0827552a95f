#!/usr/bin/env python3
"""A corpus under four conditions, a quarter of each split in each: clean, telephone band,
reverberant, noise at 5 dB. The same transcripts; `{split}.condition` says which, one line per utterance.

    python manifests/conditions.py DATA OUT [--seed 1]

DATA: a folder with fairseq's manifests, `.ltr` and `dict.ltr.txt`, as digits.py writes. What is
random is drawn for each utterance, the same for the same seed.
"""

import argparse
import os
import shutil

from varan_fairseq.corpora.options import run
from varan_fairseq.data.manifest import read_lines, read_manifest, split_names
from varan_fairseq.runtime.files import written_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", help="folder with manifests and labels")
    parser.add_argument("out", help="folder for the audio and the manifests")
    parser.add_argument("--splits", nargs="+", default=["train", "valid", "test"], metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from varan_fairseq.corpora.conditions import CONDITIONS, make_split

    if os.path.realpath(args.data) == os.path.realpath(args.out):
        parser.error(f"{args.out} is the corpus itself: give another folder")
    for split in args.splits:
        for path in (f"{args.data}/{split}.tsv", f"{args.data}/{split}.ltr"):
            if not os.path.isfile(path):
                parser.error(f"no {path}: expected a corpus with manifests and .ltr")
        rows = len(read_lines(f"{args.data}/{split}.ltr"))
        files = len(read_manifest(f"{args.data}/{split}.tsv").entries)
        if rows != files:
            parser.error(f"{args.data}/{split}.ltr has {rows} lines, its manifest {files} files")
    os.makedirs(args.out, exist_ok=True)
    names = split_names(args.splits, ["condition", "wrd", "ltr"], "dict.ltr.txt")
    with written_whole(args.out, names) as data:
        counts = [make_split(args.data, args.out, data, name, args.seed) for name in args.splits]
        shutil.copyfile(f"{args.data}/dict.ltr.txt", f"{data}/dict.ltr.txt")
    shown = ", ".join(f"{count} {name}" for count, name in zip(counts, args.splits))
    print(f"{args.out}: {shown}; conditions {', '.join(CONDITIONS)}")


if __name__ == "__main__":
    run(main)
