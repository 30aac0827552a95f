"""A run as a smaller, an ordinary, or a travelling one: what `varan-export` does. Each function
returns lines that say what it made."""

import os
from typing import Any, Dict, List, Sequence

import torch
from omegaconf import OmegaConf, open_dict

from .. import __version__
from ..adapters.file import halve, write_adapter
from ..adapters.metadata import TASKS, known_config
from ..adapters.of_model import adapter_parts, adapter_tensors
from ..lora import merge_lora
from ..models.finetune import finetune_mode
from ..runtime.files import refuse_file, refuse_output
from ..runtime.pickles import state_labels
from ..upstream.depth import cut_config
from .load import MARK, model_from_state, read_state, save_state


def prune(checkpoint: str, out: str, layers: int) -> List[str]:
    """A checkpoint of the lowest blocks, with their heads and the posterior over them."""
    refuse_output(out, MARK.encode(), checkpoint)
    state = read_state(checkpoint)
    model, _, _ = model_from_state(state, checkpoint)
    size = sum(parameter.numel() for parameter in model.parameters())
    blocks = model.w2v_encoder.num_layers
    try:
        model.keep_lowest(layers)
    except ValueError as error:
        raise ValueError(f"{checkpoint} cannot be cut to {layers} layers: {error}") from None
    options = state["cfg"].model
    with open_dict(state["cfg"]):
        cut_config(options.w2v_args.model, model.w2v_encoder.spec, layers)
        options.keep_layers = layers
        if "source" in options.w2v_args:
            options.w2v_args.source.pruned_from = blocks
    # The optimizer's state is about all layers.
    state.update(model=model.state_dict(), last_optimizer_state=None)
    model_from_state(state, checkpoint)  # what is written can be read
    save_state(state, out)
    left = sum(parameter.numel() for parameter in model.parameters())
    return [f"{layers} of {blocks} blocks, {left:,} of {size:,} parameters -> {out}"]


def merge(checkpoint: str, out: str) -> List[str]:
    """A checkpoint without LoRA keys and with the same outputs."""
    refuse_output(out, MARK.encode(), checkpoint)
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
    return [f"merged {len(names)} layers -> {out}"]


def average(checkpoints: Sequence[str], out: str) -> List[str]:
    """A checkpoint whose weights are the mean of several of one run, as fairseq's
    scripts/average_checkpoints.py makes it of its own."""
    if len(checkpoints) < 2:
        raise ValueError(f"{checkpoints[0]}: expected two checkpoints or more")
    refuse_output(out, MARK.encode(), *checkpoints)
    state = read_state(checkpoints[0])
    total = {name: tensor.double() for name, tensor in state["model"].items()}
    for path in checkpoints[1:]:
        other = read_state(path)
        _refuse_another_run(checkpoints[0], state, path, other)
        for name, tensor in other["model"].items():
            total[name] += tensor
    for name, tensor in state["model"].items():
        mean = total[name] / len(checkpoints)
        whole = not tensor.is_floating_point()  # counts of a batch norm
        state["model"][name] = tensor if whole else mean.to(tensor.dtype)
    # the optimizer's state is about one of them
    state["last_optimizer_state"] = None
    model_from_state(state, checkpoints[0])  # what is written can be read
    save_state(state, out)
    updates = state["optimizer_history"][-1]["num_updates"]
    return [f"mean of {len(checkpoints)} checkpoints, of {updates:,} updates and others -> {out}"]


def ema(checkpoint: str, out: str) -> List[str]:
    """A checkpoint whose weights are the moving average that a run with ema.store_ema=true keeps."""
    refuse_output(out, MARK.encode(), checkpoint)
    state = read_state(checkpoint)
    averaged = (state.get("extra_state") or {}).pop("ema", None)
    if not averaged:
        raise ValueError(f"{checkpoint} has no moving average: it is kept with ema.store_ema=true")
    own = state["model"]
    if set(averaged) != set(own):
        raise ValueError(f"{checkpoint} has a moving average of another model")
    state["model"] = {name: averaged[name].to(tensor.dtype) for name, tensor in own.items()}
    state["last_optimizer_state"] = None
    model_from_state(state, checkpoint)  # what is written can be read
    save_state(state, out)
    return [f"moving average of {state['optimizer_history'][-1]['num_updates']:,} updates -> {out}"]


def _refuse_another_run(
    path: str, state: Dict[str, Any], other_path: str, other: Dict[str, Any]
) -> None:
    """Raises ValueError unless two checkpoints have the same labels, prior and weights' shapes."""
    labels = [state_labels(each) for each in (state, other)]
    if labels[0] != labels[1]:
        raise ValueError(f"{other_path} has other labels than {path}: they are of different runs")
    shapes = [{name: t.shape for name, t in each["model"].items()} for each in (state, other)]
    if shapes[0] != shapes[1]:
        differ = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ValueError(
            f"{other_path} has other weights than {path} ({differ[0][0]}, ..): they are of different "
            "models"
        )
    priors = [each["model"].get("prior.probs") for each in (state, other)]
    if priors[0] is not None and not torch.allclose(priors[0], priors[1], atol=1e-6):
        raise ValueError(f"{other_path} has another prior than {path}: they are of different runs")


def adapter(checkpoint: str, folder: str, half: bool = False) -> List[str]:
    """What trained, as safetensors, and metadata."""
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
        raise ValueError(f"{checkpoint} was trained by task {cfg.task._name}, expected {wanted}")
    tensors = adapter_tensors(model)
    size = write_adapter(
        folder, _metadata(state, cfg, task.target_dictionary), halve(tensors) if half else tensors
    )
    whole = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    parts = adapter_parts(model, tensors).items()
    return [
        f"{size / 1e6:.2f} MB, {100 * size / whole:.2f}% of the model in float32 -> {folder}",
        *(f"  {part}: {count:,} numbers" for part, count in parts),
    ]


def _metadata(state: Dict[str, Any], cfg: Any, labels: Any) -> Dict[str, Any]:
    source = cfg.model.w2v_args.source
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {
        "varan_fairseq": __version__,
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


def restore(folder: str, base: str, out: str) -> List[str]:
    """Adapter and base as one checkpoint, as if it had been trained here."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no adapter {folder}")
    files = [os.path.join(folder, name) for name in os.listdir(folder)]
    refuse_output(out, MARK.encode(), base, *files)
    save_state(read_state(folder, base=base), out)
    return [f"{folder} on {base} -> {out}"]
