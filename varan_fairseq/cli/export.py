"""varan-export: a run as a smaller, an ordinary, or a travelling one.

prune leaves the upper blocks out. merge folds adapters into the weights. adapter writes
everything that trained, to be put on the same base elsewhere, without pickle. restore puts
it there.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from omegaconf import OmegaConf

import varan_fairseq

from ..adapters.card import TASKS, known_config
from ..adapters.file import halve, write_adapter
from ..adapters.of_model import adapter_parts, adapter_tensors
from ..finetuned.load import model_from_state, read_state, save_state
from ..finetuned.prune import prune
from ..lora import merge_lora
from ..models.finetune import finetune_mode
from ..runtime.files import refuse_file, refuse_no_folder, refuse_same
from . import run


def cut(checkpoint: str, out: str, layers: int) -> None:
    """A checkpoint of the lowest blocks, with their heads and the posterior over them."""
    refuse_no_folder(out)
    refuse_same(out, checkpoint)
    state = read_state(checkpoint)
    model, _, _ = model_from_state(state, checkpoint)
    size = sum(parameter.numel() for parameter in model.parameters())
    try:
        state = prune(state, model, layers)
    except ValueError as error:
        raise ValueError(f"{checkpoint} cannot be cut to {layers} layers: {error}") from None
    pruned, _, _ = model_from_state(state, checkpoint)
    save_state(state, out)
    left = sum(parameter.numel() for parameter in pruned.parameters())
    print(
        f"{layers} of {model.w2v_encoder.num_layers} blocks, {left:,} of {size:,} parameters -> "
        f"{out}"
    )


def merge(checkpoint: str, out: str) -> None:
    """A checkpoint without LoRA keys and with the same outputs."""
    refuse_no_folder(out)
    refuse_same(out, checkpoint)
    state = read_state(checkpoint)
    model, _, _ = model_from_state(state, checkpoint)
    names = merge_lora(model)
    if not names:
        raise ValueError(f"{checkpoint} has no adapters to merge: model.lora_rank=0")
    options = state["cfg"].model
    options.finetune, options.adapter = "full", None
    options.lora_rank, options.lora_magnitude, options.lora_extra = 0, False, "none"
    # The optimizer's state is about the factors, which are gone.
    save_state({**state, "model": model.state_dict(), "last_optimizer_state": None}, out)
    print(f"merged {len(names)} layers -> {out}")


def adapter(checkpoint: str, folder: str, half: bool) -> None:
    """What trained, as safetensors, and a card."""
    refuse_file(folder)
    state = read_state(checkpoint)
    model, cfg, task = model_from_state(state, checkpoint)
    if finetune_mode(model.cfg) == "full":
        raise ValueError(
            f"{checkpoint} was trained with model.finetune=full: everything trained, so its adapter "
            "would be the whole model. Share the checkpoint"
        )
    if "source" not in cfg.model.w2v_args or cfg.model.no_pretrained_weights:
        raise ValueError(
            f"{checkpoint} does not say which pre-trained checkpoint it was trained on"
        )
    if model.w2v_encoder.raw_states and "pruned_from" in cfg.model.w2v_args.source:
        raise ValueError(
            f"{checkpoint} was cut after its training, so the last LayerNorm of its encoder is not "
            "that of its base: write the adapter of the whole run, restore it, then cut"
        )
    wanted = TASKS[cfg.model._name]
    if cfg.task._name != wanted:
        raise ValueError(f"{checkpoint} was trained by task {cfg.task._name}, wanted {wanted}")
    tensors = adapter_tensors(model)
    size = write_adapter(
        folder, _card(state, cfg, task.target_dictionary), halve(tensors) if half else tensors
    )
    whole = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    print(f"{size / 1e6:.2f} MB, {100 * size / whole:.2f}% of the model in float32 -> {folder}")
    for part, count in adapter_parts(model, tensors).items():
        print(f"  {part}: {count:,} numbers")


def _card(state: Dict[str, Any], cfg: Any, labels: Any) -> Dict[str, Any]:
    source = cfg.model.w2v_args.source
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {
        "varan_fairseq": varan_fairseq.__version__,
        "base": {
            "file": source.file,
            "sha256": source.sha256,
            "kind": cfg.model.w2v_args.model._name,
        },
        "num_updates": state["optimizer_history"][-1]["num_updates"],
        "config": known_config(plain),
        "labels": [
            [symbol, count]
            for symbol, count in list(zip(labels.symbols, labels.count))[labels.nspecial :]
        ],
    }


def restore(folder: str, base: str, out: str) -> None:
    """Adapter and base as one checkpoint, as if it had been trained here."""
    refuse_no_folder(out)
    refuse_same(out, base)
    save_state(read_state(folder, base=base), out)
    print(f"{folder} on {base} -> {out}")


def export(argv: Optional[List[str]]) -> None:
    parser = argparse.ArgumentParser(prog="varan-export", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", metavar="prune | merge | adapter | restore")
    commands.required = True

    command = commands.add_parser("prune", help=cut.__doc__, description=cut.__doc__)
    command.add_argument("checkpoint", help="of a run with aggregation varan (a pickle)")
    command.add_argument("out", help="checkpoint to write")
    command.add_argument("--layers", type=int, required=True, help="how many of the lowest to keep")

    command = commands.add_parser("merge", help=merge.__doc__, description=merge.__doc__)
    command.add_argument("checkpoint", help="of a LoRA run (a pickle: only load files you trust)")
    command.add_argument("out", help="checkpoint to write")

    command = commands.add_parser("adapter", help=adapter.__doc__, description=adapter.__doc__)
    command.add_argument("checkpoint", help="of a LoRA or probe run (a pickle)")
    command.add_argument("folder", help="folder to write")
    command.add_argument("--half", action="store_true", help="matrices in float16: half the size")

    command = commands.add_parser("restore", help=restore.__doc__, description=restore.__doc__)
    command.add_argument("folder", help="an adapter")
    command.add_argument("base", help="the pre-trained checkpoint it was trained on (a pickle)")
    command.add_argument("out", help="checkpoint to write")

    options = vars(parser.parse_args(argv))
    work = {"prune": cut, "merge": merge, "adapter": adapter, "restore": restore}
    work[options.pop("command")](**options)


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-export", export, argv)


if __name__ == "__main__":
    sys.exit(main())
