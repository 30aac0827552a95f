#!/usr/bin/env python3
"""Several corpora as one, each as often as a temperature says; their validation splits stay apart.

    python manifests/mixture.py OUT --train data/libri data/cv:train_small \
        --valid data/libri:dev_clean data/cv:dev --temperature 2

Of a corpus of h hours an epoch has a share proportional to h^(1/T): at T = 1 each counts as long as it is,
at a large T all count alike. The largest corpus is there once, the others are repeated, a random part of
them once more. The audio stays where it is. Train with task.data=OUT.
"""

import argparse
import os

from varan_fairseq.corpora.options import label_ending, refuse, run
from varan_fairseq.data.manifest import split_names
from varan_fairseq.runtime.files import written_whole


def temperature(text: str) -> float:
    value = float(text)
    if not value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 or more")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", help="folder for the manifests")
    for split, help in (("train", "what to mix"), ("valid", "what to validate on, each by itself")):
        parser.add_argument(
            f"--{split}",
            nargs="+",
            required=True,
            metavar="FOLDER[:SPLIT]",
            help=f"{help}; a split that is not named is {split}",
        )
    parser.add_argument("--temperature", type=temperature, default=1.0, help="T, 1 or more")
    parser.add_argument(
        "--labels", type=label_ending, default="ltr", help="ending of the label files"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is repeated once more")
    args = parser.parse_args()
    from varan_fairseq.corpora.mixture import (
        merge_dictionaries,
        names_of,
        read_part,
        times,
        write_parts,
    )

    parts = {
        split: [read_part(text, split, args.labels) for text in getattr(args, split)]
        for split in ("train", "valid")
    }
    every = [*parts["train"], *parts["valid"]]
    for part in every:
        if os.path.realpath(part.folder) == os.path.realpath(args.out):
            refuse(f"{args.out} is one of the corpora: give another folder")
    names = names_of(every)
    labels, added = merge_dictionaries([part.folder for part in every], args.labels)
    factors = times([part.hours for part in parts["train"]], args.temperature)
    valid = [f"{names[part.folder]}_{part.split}" for part in parts["valid"]]
    if len(set(valid)) < len(valid):
        refuse("--valid names a split twice")

    written = split_names(["train", *valid], [args.labels, "wrd", "spk"], f"dict.{args.labels}.txt")
    os.makedirs(args.out, exist_ok=True)
    with written_whole(args.out, written) as data:
        mixed = write_parts(data, "train", parts["train"], factors, names, args)
        for name, part in zip(valid, parts["valid"]):
            write_parts(data, name, [part], [1.0], names, args)
        labels.write(os.path.join(data, f"dict.{args.labels}.txt"))
    for part, factor in zip(parts["train"], factors):
        share = part.hours * factor / mixed
        print(
            f"{part.folder}:{part.split}  {part.hours:.2f} hours, {factor:.2f} times: {share:.1%}"
        )
    for folder, symbols in added.items():
        shown = " ".join(symbols[:20])
        print(f"  {folder} brings {len(symbols)} labels that those before it do not have: {shown}")
    # hydra takes a bare comma for a sweep
    print(f"{args.out}: {mixed:.2f} hours in train")
    print(f"""validate with "dataset.valid_subset='{",".join(valid)}'\"""")


if __name__ == "__main__":
    run(main)
