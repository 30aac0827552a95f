#!/usr/bin/env python3
"""Any corpus with one sub-folder a class as labelled manifests.

    python manifests/folder.py SOURCE OUT [--speaker '(\\d+)_']

With --speaker, a regular expression whose first group is found in the path of a file relative
to SOURCE and names its speaker, speakers are split; without it, files are, class by class, and
nothing is known of speakers.
"""

import collections
import os
import random
import re

from varan_fairseq.corpora.labelled import Recording, resample, split_speakers, write
from varan_fairseq.corpora.options import fraction, parser, refuse, run
from varan_fairseq.data.audio import ENDINGS, UNREADABLE, files_below
from varan_fairseq.data.manifest import manifest_rows


def find(source: str, pattern: str):
    """Every audio file, labelled with its top folder. Links to folders are followed."""
    try:
        speaker = re.compile(pattern) if pattern else None
    except re.error as error:
        refuse(f"--speaker {pattern!r} is not a regular expression: {error}")
    if speaker and not speaker.groups:
        refuse(f"--speaker {pattern!r} has no group: put parentheses around the speaker")
    seen, unreadable, labels = {}, collections.Counter(), set()
    try:
        files = list(files_below(source))
    except OSError as error:
        refuse(f"{error.filename} cannot be read: {error.strerror}")
    for relative in files:
        path = os.path.join(source, relative)
        label, *below = relative.split(os.sep)
        file = os.path.basename(relative)
        if not below or file.startswith("."):
            continue
        if file.lower().endswith(UNREADABLE):
            unreadable[label] += 1
        if not file.lower().endswith(ENDINGS):
            continue
        try:
            manifest_rows("", [(relative, 0)])
        except ValueError as error:
            refuse(str(error))
        labels.add(label)
        if re.search(r"\s", label):
            refuse(f"class folder {label!r}: labels cannot have blanks, rename it")
        found = speaker.search(relative) if speaker else None
        if speaker and not found:
            refuse(f"--speaker {pattern!r} does not match {relative!r}")
        name = os.path.splitext(relative)[0] + ".wav"
        if name in seen:
            refuse(f"{path} and {seen[name]} would both become {name}")
        seen[name] = path
        yield Recording(path, name, label, found[1] if found else None)
    for label, count in sorted(unreadable.items()):
        text = f"class folder {label!r}: {count} files end in {', '.join(UNREADABLE)}"
        if label not in labels:
            refuse(f"{text} and none in {', '.join(ENDINGS)}: convert them, or take it away")
        print(f"{text} and are left out")


def split_files(recordings, shares, rng):
    """The same share of every class."""
    splits = {"train": [], **{split: [] for split in shares}}
    for label in sorted({row.label for row in recordings}):
        rows = [row for row in recordings if row.label == label]
        rng.shuffle(rows)
        for split, share in shares.items():
            count = round(share * len(rows))
            splits[split] += rows[:count]
            rows = rows[count:]
        splits["train"] += rows
    return splits


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--speaker", help="regular expression; its first group is the speaker")
    options.add_argument("--valid", type=fraction, default=0.1, help="share for validation")
    options.add_argument("--test", type=fraction, default=0.2, help="share for testing")
    options.add_argument("--seed", type=int, default=1, help="of the split")
    args = options.parse_args()
    shares = {"valid": args.valid, "test": args.test}
    if min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        refuse(f"--valid {args.valid} --test {args.test}: expected shares that leave some to train")
    if os.path.realpath(args.out).startswith(os.path.join(os.path.realpath(args.source), "")):
        refuse(f"{args.out} lies in {args.source}: its copies would be taken for recordings")
    recordings = list(find(args.source, args.speaker))
    classes = sorted({row.label for row in recordings})
    if len(classes) < 2:
        refuse(
            f"{args.source} has {len(classes)} sub-folders with {', '.join(ENDINGS)} files, expected "
            "one a class"
        )
    split = split_speakers if args.speaker else split_files
    splits = split(recordings, shares, random.Random(args.seed))
    if not args.speaker:
        print("no --speaker: a speaker may be in training and test")
    trained = {row.label for row in splits["train"]}
    for name in classes:
        if name not in trained:
            print(f"class {name} has no examples in train")
    write(args, args.out, splits, resample(args, recordings), classes)


if __name__ == "__main__":
    run(main)
