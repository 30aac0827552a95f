"""Recordings whose labels are numbers, as manifests."""

import argparse
from typing import Dict, Mapping, Sequence

from ..data.labels import write_class_dictionary, write_labelled_split
from ..data.manifest import split_names
from ..runtime.files import written_whole
from .labelled import RATE, Recording, audio_root, copied_utterances


def write_rated(
    args: argparse.Namespace,
    splits: Mapping[str, Sequence[Recording]],
    samples: Dict[str, int],
    names: Sequence[str],
) -> None:
    """`labelled.write` for recordings whose labels are numbers. names: of the numbers."""
    ending, total = args.labels, 0
    with written_whole(args.out, split_names(splits, [ending, "spk"], f"dict.{ending}.txt")) as new:
        for split, rows in splits.items():
            utterances = copied_utterances(split, rows, samples)
            write_labelled_split(new, split, ending, audio_root(args.out), utterances)
            minutes = sum(row.samples for row in utterances) / RATE / 60
            total += len(utterances)
            print(f"{args.out}: {split} {len(utterances)}, {minutes:.1f} minutes")
        write_class_dictionary(new, ending, dict.fromkeys(names, total))
