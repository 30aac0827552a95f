"""A fine-tuned checkpoint of ours, or a base with an adapter -> model, configuration, task.

fairseq's checkpoints are pickles: only load files you trust. Adapters are not.
"""

import os
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from fairseq import checkpoint_utils, tasks
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import overwrite_args_by_name
from omegaconf import OmegaConf, open_dict

from . import compat
from .adapter import read_adapter
from .lora import lora_parameters
from .models.adapters import adapter_labels, load_adapter
from .models.layerwise import LayerwiseModel
from .upstream import load_weights, read_pretrained

# Our models, and the task whose needs an adapter holds. It may name no other: adapters are
# not trusted.
TASKS = {"varan_ctc": "audio_finetuning", "varan_classification": "utterance_classification"}


def read_state(
    path: str,
    overrides: Optional[Dict[str, Any]] = None,
    base: Optional[str] = None,
    models: Sequence[str] = tuple(TASKS),
) -> Dict[str, Any]:
    """fairseq's checkpoint dictionary, on the CPU.

    path: a checkpoint of ours, or the folder of an adapter, whose `base` is then the
    pre-trained checkpoint it was trained on. overrides: as `model_overrides`. models: names
    of the models wanted. Raises FileNotFoundError, or ValueError if a file is not what it
    should be.
    """
    if base is not None and os.path.isfile(path):
        raise ValueError(f"{path} is no folder with an adapter, so it needs no base ({base})")
    if base is not None or os.path.isdir(path):
        state = _restored(path, base)
        overwrite_args_by_name(state["cfg"], overrides or {})
    else:
        state = _read(path, overrides)
    name = state["cfg"].model._name
    if name not in models:
        raise ValueError(
            f"{path} was made by model {name!r}, wanted a checkpoint of {' or '.join(models)}"
        )
    compat.fit_task_config(state["cfg"].task)
    return state


def load_model(
    path: str,
    overrides: Optional[Dict[str, Any]] = None,
    data: Optional[str] = None,
    base: Optional[str] = None,
    models: Sequence[str] = tuple(TASKS),
) -> Tuple[LayerwiseModel, Any, Any]:
    """(model in evaluation mode, cfg, task). data: folder to use as `task.data`; path,
    overrides, base, models: see `read_state`."""
    state = read_state(path, overrides, base, models)
    if data is not None:
        with open_dict(state["cfg"]):
            state["cfg"].task.data = data
    return model_from_state(state, path)


def model_from_state(
    state: Dict[str, Any], path: str, task: Any = None
) -> Tuple[LayerwiseModel, Any, Any]:
    """What `load_model` returns, from what `read_state` returned for this path. task: one to
    use instead of the checkpoint's own."""
    # fairseq wants the path to exist although it does not read it again
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [path], task=task, state=state
    )
    return model.eval(), cfg, task


def save_state(state: Dict[str, Any], path: str) -> None:
    """Writes a checkpoint as fairseq does, under a temporary name first: whole or not at all."""
    cfg = OmegaConf.to_container(state["cfg"], resolve=True, enum_to_str=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        torch.save({**state, "cfg": cfg}, temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _read(path: str, overrides: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint {path} (working directory {os.getcwd()})")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
        if not state["cfg"].model._name:
            raise KeyError("_name")
    except Exception as error:
        raise ValueError(
            f"{path} is no fairseq checkpoint ({type(error).__name__}: {error})"
        ) from error
    return state


def _restored(folder: str, base: Optional[str]) -> Dict[str, Any]:
    """The checkpoint that an adapter and its base make."""
    adapter = read_adapter(folder)
    if base is None:
        raise ValueError(
            f"{folder} is an adapter: give its base too, {adapter.card['base']['file']} (SHA-256 "
            f"{adapter.card['base']['sha256']})"
        )
    cfg = OmegaConf.create(adapter.card["config"])
    made_by = (cfg.model.get("_name"), cfg.task.get("_name"))
    if made_by not in TASKS.items():
        raise ValueError(
            f"{folder} was made with model {made_by[0]} and task {made_by[1]}, wanted "
            + " or ".join(f"{model} and {task}" for model, task in TASKS.items())
        )
    cfg.task.data = cfg.model.data = ""
    cfg.model.w2v_path = base
    pretrained, cfg.model.w2v_args = read_pretrained(cfg.model)
    OmegaConf.set_struct(cfg.model.w2v_args, False)  # fairseq's tasks write to it
    compat.fit_task_config(cfg.task)
    task = tasks.setup_task(cfg.task)
    labels = adapter_labels(adapter)
    task.load_state_dict({"target_dictionary": labels})
    model = task.build_model(cfg.model, from_checkpoint=True)
    load_weights(model.w2v_encoder, pretrained, base, lora_parameters(model.w2v_encoder.w2v_model))
    load_adapter(model, adapter, labels)

    whole = OmegaConf.structured(FairseqConfig)
    OmegaConf.set_struct(whole, False)
    whole = OmegaConf.merge(whole, {key: cfg[key] for key in ("model", "task", "criterion")})
    updates = {"num_updates": adapter.card["num_updates"], "lr_scheduler_state": {}}
    return {
        "args": None,
        "cfg": whole,
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [updates],
        "task_state": {"target_dictionary": labels},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
