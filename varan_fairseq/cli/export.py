"""varan-export: a run as a smaller, an ordinary, or a travelling one, or for other programs.

prune leaves the upper blocks out. merge folds adapters into the weights. average takes the mean of
several checkpoints of one run, ema the moving average that a run kept. adapter writes
everything that trained, to be put on the same base elsewhere, without pickle. restore puts
it there. hf writes one layer for transformers, onnx for ONNX Runtime and sherpa-onnx.
"""

import argparse
import importlib
import sys
from typing import List, Optional

from . import Parser, run

COMMANDS = {
    "prune": "A checkpoint of the lowest blocks, with their heads and the posterior over them.",
    "merge": "A checkpoint without LoRA keys and with the same outputs.",
    "average": "A checkpoint whose weights are the mean of several of one run.",
    "ema": "A checkpoint whose weights are the moving average of a run with ema.store_ema=true.",
    "adapter": "What trained, as safetensors, and metadata.",
    "restore": "Adapter and base as one checkpoint, as if it had been trained here.",
    "hf": "One layer as a folder that transformers loads with its own classes.",
    "onnx": "One layer as an ONNX graph with its labels, as sherpa-onnx takes them.",
}


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-export",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-export adapter checkpoint_best.pt my_adapter",
    )
    added = options.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))
    added.required = True
    prune, merge, average, ema, adapter, restore, hf, onnx = (
        added.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()
    )
    prune.add_argument("checkpoint", help="of a run with aggregation varan (a pickle)")
    prune.add_argument("out", help="checkpoint to write")
    prune.add_argument("--layers", type=int, required=True, help="how many of the lowest to keep")
    merge.add_argument("checkpoint", help="of a LoRA run (a pickle: only load files you trust)")
    merge.add_argument("out", help="checkpoint to write")
    average.add_argument(
        "checkpoints", nargs="+", help="of one run, as checkpoint_*_*.pt (pickles)"
    )
    average.add_argument("out", help="checkpoint to write")
    ema.add_argument("checkpoint", help="of a run with ema.store_ema=true (a pickle)")
    ema.add_argument("out", help="checkpoint to write")
    adapter.add_argument("checkpoint", help="of a LoRA or probe run (a pickle)")
    adapter.add_argument("folder", help="folder to write")
    adapter.add_argument("--half", action="store_true", help="matrices in float16: half the size")
    restore.add_argument("folder", help="an adapter")
    restore.add_argument("base", help="the pre-trained checkpoint it was trained on (a pickle)")
    restore.add_argument("out", help="checkpoint to write")
    for command in (hf, onnx):
        command.add_argument(
            "checkpoint", help="of a run with aggregation varan or last_layer (a pickle)"
        )
        command.add_argument("folder", help="new folder to write")
        command.add_argument(
            "--layer",
            type=int,
            help="1 (lowest) .. L; default: the one with the lowest validation loss",
        )
    hf.add_argument(
        "--all-layers",
        action="store_true",
        help="all of them, with code for trust_remote_code=True",
    )
    hf.add_argument("--scores", help="asr.json of varan-infer, for the table of the model card")
    return options


def export(argv: Optional[List[str]]) -> None:
    options = vars(parser().parse_args(argv))
    command = options.pop("command")
    module = {"hf": "to_hf", "onnx": "to_onnx"}.get(command, "export")
    functions = importlib.import_module(f"varan_fairseq.finetuned.{module}")
    print("\n".join(getattr(functions, command)(**options)))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-export", export, argv)


if __name__ == "__main__":
    sys.exit(main())
