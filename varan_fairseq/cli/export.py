"""varan-export: a run as a smaller, an ordinary, or a travelling one.

prune leaves the upper blocks out. merge folds adapters into the weights. adapter writes
everything that trained, to be put on the same base elsewhere, without pickle. restore puts
it there.
"""

import argparse
import sys
from typing import List, Optional

from . import run

COMMANDS = {
    "prune": "A checkpoint of the lowest blocks, with their heads and the posterior over them.",
    "merge": "A checkpoint without LoRA keys and with the same outputs.",
    "adapter": "What trained, as safetensors, and metadata.",
    "restore": "Adapter and base as one checkpoint, as if it had been trained here.",
}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="varan-export", description=(__doc__ or "").split("\n\n")[0]
    )
    added = options.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))
    added.required = True
    prune, merge, adapter, restore = (
        added.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()
    )
    prune.add_argument("checkpoint", help="of a run with aggregation varan (a pickle)")
    prune.add_argument("out", help="checkpoint to write")
    prune.add_argument("--layers", type=int, required=True, help="how many of the lowest to keep")
    merge.add_argument("checkpoint", help="of a LoRA run (a pickle: only load files you trust)")
    merge.add_argument("out", help="checkpoint to write")
    adapter.add_argument("checkpoint", help="of a LoRA or probe run (a pickle)")
    adapter.add_argument("folder", help="folder to write")
    adapter.add_argument("--half", action="store_true", help="matrices in float16: half the size")
    restore.add_argument("folder", help="an adapter")
    restore.add_argument("base", help="the pre-trained checkpoint it was trained on (a pickle)")
    restore.add_argument("out", help="checkpoint to write")
    return options


def export(argv: Optional[List[str]]) -> None:
    options = vars(parser().parse_args(argv))
    from ..finetuned import export as functions

    print("\n".join(getattr(functions, options.pop("command"))(**options)))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-export", export, argv)


if __name__ == "__main__":
    sys.exit(main())
