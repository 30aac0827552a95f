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

from .. import __version__
from ..adapters.file import read_adapter
from ..adapters.metadata import TASKS
from ..adapters.of_model import adapter_labels, load_adapter
from ..lora import lora_parameters
from ..models.layerwise import LayerwiseModel
from ..runtime import fairseq_compat
from ..runtime.files import file_state, written
from ..runtime.pickles import as_fairseq_state, peek, reason
from ..upstream import load_weights, read_pretrained
from ..upstream.checkpoint import check_finite

LABELLERS = ("varan_ctc", "varan_classification")  # models whose outputs are labels
MARK = "written_by_varan_fairseq"  # the first key of checkpoints that we wrote, not fairseq


def read_state(
    path: str,
    overrides: Optional[Dict[str, Any]] = None,
    base: Optional[str] = None,
    models: Sequence[str] = tuple(TASKS),
    data: Optional[str] = None,
) -> Dict[str, Any]:
    """fairseq's checkpoint dictionary, on the CPU.

    path: a checkpoint of ours, or the folder of an adapter. base: the pre-trained checkpoint
    that an adapter was trained on, or a checkpoint without the configuration of its encoder
    (as those of task `hubert_pretraining`, formerly) started from. overrides: as
    `model_overrides`. models: names of the models wanted. data: folder to use as `task.data`.
    Raises FileNotFoundError, or ValueError if a file is not what it should be.
    """
    adapted = os.path.isdir(path) or (base is not None and not os.path.exists(path))
    if adapted:
        state = _restored(path, base)
        overwrite_args_by_name(state["cfg"], overrides or {})
    else:
        state = _read(path, overrides)
    name = state["cfg"].model._name
    if name not in models:
        raise ValueError(
            f"{path} was made by model {name!r}, expected a checkpoint of {' or '.join(models)}"
        )
    fairseq_compat.fit_task_config(state["cfg"].task)
    if not adapted:
        _complete(state["cfg"].model, path, base)
    if data is not None:
        with open_dict(state["cfg"]):
            state["cfg"].task.data = data
    return state


def _complete(cfg: Any, path: str, base: Optional[str]) -> None:
    """Sees to a checkpoint's configuration of its encoder, from `base` if it has none."""
    if cfg.get("w2v_args") is not None:
        if base is not None:
            raise ValueError(f"{path} has its encoder in itself, so it needs no base ({base})")
        return
    base = base or cfg.w2v_path
    if not os.path.exists(base):
        raise FileNotFoundError(
            f"{path} lacks the configuration of its encoder, and the pre-trained checkpoint it "
            f"started from is not at {base}: give it as base (model.w2v_path)"
        )
    with open_dict(cfg):
        cfg.w2v_path = base
        _, cfg.w2v_args = read_pretrained(cfg)


def load_model(
    path: str,
    overrides: Optional[Dict[str, Any]] = None,
    data: Optional[str] = None,
    base: Optional[str] = None,
    models: Sequence[str] = tuple(TASKS),
) -> Tuple[LayerwiseModel, Any, Any]:
    """(model in evaluation mode, cfg, task); see `read_state`."""
    return model_from_state(read_state(path, overrides, base, models, data), path)


def model_from_state(
    state: Dict[str, Any], path: str, task: Any = None
) -> Tuple[LayerwiseModel, Any, Any]:
    """What `load_model` returns, from what `read_state` returned for this path. task: one to
    use instead of the checkpoint's own."""
    check_finite(state["model"], path)
    if task is not None:  # labels are encoded, in their order, by the dictionary of the model
        task.load_state_dict(state.get("task_state") or {})
    # fairseq wants the path to exist although it does not read it again
    try:
        (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [path], task=task, state=state
        )
    except RuntimeError as error:  # weights of other shapes than the options say
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = lines[1] if len(lines) > 1 else lines[0]
        raise ValueError(
            f"{path} does not fit its options ({what}): do overrides change its shape?"
        ) from error
    return model.eval(), cfg, task


def training_post_process(cfg: Any) -> str:
    """How the training made words of labels: `criterion.post_process`."""
    return (cfg.get("criterion") or {}).get("post_process") or "letter"


def save_state(state: Dict[str, Any], path: str) -> None:
    """Writes a checkpoint as fairseq does, under a temporary name first: whole or not at all."""
    cfg = OmegaConf.to_container(state["cfg"], resolve=True, enum_to_str=True)
    with written(path) as temporary:
        try:
            torch.save({MARK: __version__, **state, "cfg": cfg}, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error


def _read(path: str, overrides: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint {path} (working directory {os.getcwd()})")
    try:
        before = file_state(path)
        state = as_fairseq_state(peek(path), overrides)
        if not state["cfg"].model._name:
            raise ValueError("its configuration names no model")
        # a mapped file that is written over ends this process
        state["model"] = {name: tensor.clone() for name, tensor in state["model"].items()}
        if file_state(path) != before:
            raise ValueError("it was written over while it was read: try again")
    except Exception as error:  # whatever a foreign file makes fairseq's conversion raise
        raise ValueError(f"{path} is not a fairseq checkpoint: {reason(error)}") from error
    return state


def _restored(folder: str, base: Optional[str]) -> Dict[str, Any]:
    """The checkpoint that an adapter and its base make."""
    adapter = read_adapter(folder)
    if base is None:
        raise ValueError(
            f"{folder} is an adapter: give its base too, {adapter.metadata['base']['file']} (SHA-256 "
            f"{adapter.metadata['base']['sha256']})"
        )
    cfg = OmegaConf.create(adapter.metadata["config"])
    cfg.task.data = cfg.model.data = ""
    cfg.model.w2v_path = base
    pretrained, cfg.model.w2v_args = read_pretrained(cfg.model)
    OmegaConf.set_struct(cfg.model.w2v_args, False)  # fairseq's tasks write to it
    fairseq_compat.fit_task_config(cfg.task)
    task = tasks.setup_task(cfg.task)
    labels = adapter_labels(adapter)
    task.load_state_dict({"target_dictionary": labels})
    model = task.build_model(cfg.model, from_checkpoint=True)
    load_weights(model.w2v_encoder, pretrained, base, lora_parameters(model.w2v_encoder.w2v_model))
    load_adapter(model, adapter, labels)

    whole = OmegaConf.structured(FairseqConfig)
    OmegaConf.set_struct(whole, False)
    whole = OmegaConf.merge(whole, {key: cfg[key] for key in ("model", "task", "criterion")})
    updates = {"num_updates": adapter.metadata["num_updates"], "lr_scheduler_state": {}}
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
