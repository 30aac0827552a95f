"""Reading what torch.save wrote, which is a pickle: known classes are built and no others, where
torch can be told which (2.4)."""

import argparse
import codecs
import collections
import functools
import os
import pickle
import re
import types
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.dataclass.utils import omegaconf_no_object_check, overwrite_args_by_name
from omegaconf import OmegaConf

_TRUST = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # torch's own variable


def allow_checkpoint_classes() -> None:
    """Lets torch >= 2.6, which unpickles known classes only, read fairseq's checkpoints: they
    carry the label dictionary, numpy's numbers, and old ones an argparse namespace or
    omegaconf's objects."""
    if hasattr(torch.serialization, "add_safe_globals"):
        objects: List[Any] = [omegaconf.DictConfig, omegaconf.ListConfig, omegaconf.AnyNode]
        objects += [omegaconf.base.ContainerMetadata, omegaconf.base.Metadata]
        builtin: List[Any] = [Any, dict, list, int, collections.defaultdict]
        torch.serialization.add_safe_globals([Dictionary, argparse.Namespace, *objects, *builtin])
        torch.serialization.add_safe_globals(_numpy_numbers())


def _numpy_numbers() -> list:
    """What a pickled numpy number is made of, common in a training's `extra_state`."""
    kinds = [bool, *"bhilqBHILQefd"]
    classes: Set[Any] = {type(numpy.dtype(kind)) for kind in kinds} - {numpy.dtype}
    classes.add(codecs.encode)  # of the bytes of a number
    if _version(numpy) < (2, 0):
        return [_attribute(numpy, "core.multiarray.scalar"), numpy.dtype, *classes]
    scalar = _attribute(numpy, "_core.multiarray.scalar")
    if _version(torch) >= (2, 6):  # a file that numpy 1 wrote has its older name
        classes.add((scalar, "numpy.core.multiarray.scalar"))
    return [scalar, numpy.dtype, *classes]


def _attribute(package: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), package)


def _version(package: types.ModuleType) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", package.__version__)[:2])


def peek(path: str) -> Dict[Any, Any]:
    """The dictionary that torch saved in a file, on the CPU, with tensors that are read only when
    used where torch can do that.

    Of a pickle, classes that a checkpoint may hold are built and no others, with torch >= 2.4.
    Raises ValueError, naming a class that is refused, or that the file is none of torch's or
    holds something else.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise ValueError(f"it holds an object of class {type(content).__name__}")
    return content


def weights_alone(path: str) -> Dict[str, torch.Tensor]:
    """A file that holds tensors by name and nothing else. Raises ValueError for another, and below
    torch 2.6, whose `weights_only` was no promise (CVE-2025-32434)."""
    name = os.path.basename(path)
    if _version(torch) < (2, 6):
        raise ValueError(
            f"{name} is a pickle, which torch {torch.__version__} cannot read safely: expected torch "
            "2.6 or newer, or model.safetensors"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{name} is not a file of weights alone, or cut off ({first})") from None
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise ValueError(f"{name} holds something else than tensors by name")
    return content


def reason(error: Exception) -> str:
    """Why a file's content cannot be used, in one line, from what its conversion raised."""
    text = str(error).strip().split("\n")[0]
    return f"it lacks {text}" if isinstance(error, KeyError) else text


def state_labels(state: Dict[str, Any]) -> Optional[Dictionary]:
    """The dictionary of labels in a checkpoint, or None."""
    return (state.get("task_state") or {}).get("target_dictionary")


def _load(path: str) -> Any:
    other = _something_else(path)
    if other:
        raise ValueError(other)
    allow_checkpoint_classes()
    options: Dict[str, Any] = {"map_location": "cpu"}
    if hasattr(torch.serialization, "add_safe_globals") and not os.environ.get(_TRUST):
        options["weights_only"] = True
    try:
        try:
            return torch.load(path, mmap=True, **options)
        except (TypeError, RuntimeError):  # torch < 2.1, or a file older than torch 1.6
            return torch.load(path, **options)
    except pickle.UnpicklingError as error:
        match = re.search(r"(?:GLOBAL|class|global) `?([\w.]+\.[\w.]+)", str(error))
        if match is None:
            raise ValueError("it is not a file of torch.save, or cut off") from None
        raise ValueError(
            f"it holds an object of class {match[1]}, which may run code when it is read: only if "
            f"you trust the file, read it with {_TRUST}=1"
        ) from None
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # whatever foreign bytes mean to zip and pickle
        name = type(error).__name__
        raise ValueError(f"it is not a file of torch.save, or cut off ({name})") from None


def _something_else(path: str) -> Optional[str]:
    """What a file is that people take for a checkpoint, if it says so itself."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs, not the file it stands for: git lfs pull"
    if head.lstrip()[:1] == b"<":
        return "it is a page of HTML, as a download that failed leaves: download it again"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
        return (
            "it is a file of safetensors: give its folder, with transformers' config.json in it, or "
            "fairseq's own .pt"
        )
    return None


def as_fairseq_state(state: Any, overrides: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """What `checkpoint_utils.load_checkpoint_to_cpu` makes of a file's content: it has no
    way to be given one that is read already. overrides: of options, by name."""
    overrides = overrides or {}
    if "model" not in state and state and all(map(torch.is_tensor, state.values())):
        raise ValueError(
            f"it holds weights alone ({next(iter(state))}, ..), as transformers' pytorch_model.bin "
            "does: give its folder, with config.json in it, or fairseq's own .pt"
        )
    if state.get("args") is not None:
        for key, value in overrides.items():
            setattr(state["args"], key, value)
    if state.get("cfg") is not None:
        state["cfg"] = _config_of_anything(state["cfg"])
        overwrite_args_by_name(state["cfg"], overrides)
    return checkpoint_utils._upgrade_state_dict(state)


def _config_of_anything(content: Any) -> Any:
    """An OmegaConf that may hold an argparse namespace, as those of old checkpoints."""
    with omegaconf_no_object_check():
        try:
            return OmegaConf.create(content, flags={"allow_objects": True})
        except TypeError:  # omegaconf 2.0
            config = OmegaConf.create(content)
            OmegaConf.set_struct(config, True)
            return config
