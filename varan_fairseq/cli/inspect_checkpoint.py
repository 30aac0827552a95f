"""varan-inspect: what a checkpoint is, without training anything.

For a pre-trained or fine-tuned checkpoint of any supported kind, or the folder of an adapter:
kind, layers, width, normalisation, sample rate, parameters; for models of ours also how the
layers are read, the prior, what trained and the labels.
"""
# A module named inspect would hide Python's where a tool of this folder runs as a script.

import argparse
import logging
import sys
from typing import List, Optional

from ..runtime.files import printable
from . import Parser, run


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-inspect",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-inspect wav2vec_small.pt",
    )
    options.add_argument(
        "checkpoint",
        help="a checkpoint (a pickle: only read files you trust), the folder of an adapter, or that of "
        "an encoder that transformers wrote",
    )
    return options


def inspect(argv: Optional[List[str]]) -> None:
    path = parser().parse_args(argv).checkpoint
    from ..finetuned.describe import describe

    logging.getLogger("varan_fairseq").setLevel(logging.WARNING)  # it says the same, longer
    lines = list(describe(path))
    print(printable(path))
    for name, value in lines:
        print(printable(f"  {name:<14} {value}"))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-inspect", inspect, argv)


if __name__ == "__main__":
    sys.exit(main())
