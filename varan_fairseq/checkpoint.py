"""A fine-tuned checkpoint of ours -> model, configuration and task.

fairseq's checkpoints are pickles: only load files you trust.
"""

import os
from typing import Any, Dict, Optional, Tuple

from fairseq import checkpoint_utils
from omegaconf import open_dict

from . import compat
from .models.varan_ctc import VaranCtc


def read_state(path: str, overrides: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """fairseq's checkpoint dictionary, on the CPU. overrides: as `model_overrides`.

    Raises FileNotFoundError, or ValueError if the file is no checkpoint of `varan_ctc`.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint {path} (working directory {os.getcwd()})")
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
        name = state["cfg"].model._name
    except Exception as error:
        raise ValueError(
            f"{path} is no fairseq checkpoint ({type(error).__name__}: {error})"
        ) from error
    if name != "varan_ctc":
        raise ValueError(f"{path} was made by model {name!r}, wanted a checkpoint of 'varan_ctc'")
    compat.fit_task_config(state["cfg"].task)
    return state


def load_model(
    path: str, overrides: Optional[Dict[str, Any]] = None, data: Optional[str] = None
) -> Tuple[VaranCtc, Any, Any]:
    """(model in evaluation mode, cfg, task). data: folder to use as `task.data`."""
    state = read_state(path, overrides)
    if data is not None:
        with open_dict(state["cfg"]):
            state["cfg"].task.data = data
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([path], state=state)
    return model.eval(), cfg, task
