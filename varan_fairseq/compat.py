"""Everything that differs between versions of fairseq, torch and Python: in one place."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import sys
import types

import fairseq
import torch
from omegaconf import OmegaConf, open_dict


def allow_checkpoint_classes() -> None:
    """Lets torch >= 2.6, which unpickles known classes only, read fairseq's checkpoints:
    they carry the label dictionary, and old ones an argparse namespace."""
    if hasattr(torch.serialization, "add_safe_globals"):
        from fairseq.data.dictionary import Dictionary

        torch.serialization.add_safe_globals([Dictionary, argparse.Namespace])


def import_infer():
    """The module of fairseq's own decoder, `examples/speech_recognition/new/infer.py`.

    Works where it cannot start as a script: on Python 3.11+ (its dataclasses have
    instances as defaults) and from a pip install (`examples` is not importable there,
    and any `./examples` would shadow it). Raises ModuleNotFoundError if this fairseq
    came without its examples.
    """
    name = "examples.speech_recognition.new.infer"
    with _fairseq_examples(), _instance_defaults_allowed():
        return importlib.import_module(name)


@contextlib.contextmanager
def _fairseq_examples():
    root = os.path.dirname(os.path.abspath(fairseq.__file__))
    candidates = [os.path.join(root, "examples"), os.path.join(os.path.dirname(root), "examples")]
    for path in candidates:
        if os.path.isfile(os.path.join(path, "speech_recognition", "new", "infer.py")):
            break
    else:
        raise ModuleNotFoundError(
            "this fairseq came without examples/speech_recognition/new/infer.py (looked in "
            f"{' and '.join(candidates)}): install fairseq==0.12.2 or ve-fairseq==0.12.3"
        )
    package = types.ModuleType("examples")
    package.__path__ = [path]
    shadowed = sys.modules.get("examples")
    sys.modules["examples"] = package
    try:
        yield
    finally:
        if shadowed is None:
            del sys.modules["examples"]
        else:
            sys.modules["examples"] = shadowed


@contextlib.contextmanager
def _instance_defaults_allowed():
    """dataclasses.dataclass as before Python 3.11: an instance default is a default."""
    plain = dataclasses.dataclass

    def dataclass(cls=None, **options):
        if cls is None:
            return lambda cls: dataclass(cls, **options)
        for key in cls.__dict__.get("__annotations__", {}):
            default = cls.__dict__.get(key)
            if dataclasses.is_dataclass(default) and not isinstance(default, type):
                factory = dataclasses.field(default_factory=type(default))
                setattr(cls, key, factory)
        return plain(cls, **options)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = plain


def forget_last_run() -> None:
    """fairseq keeps a run's best score on functions of its own, where a second run in the same
    process, as in hydra's multirun, would find it and save no best checkpoint."""
    for module, name in (
        ("fairseq.checkpoint_utils", "save_checkpoint"),
        ("fairseq_cli.train", "should_stop_early"),
    ):
        function = getattr(sys.modules.get(module), name, None)
        if function is not None:
            function.__dict__.pop("best", None)


def fit_task_config(task_cfg) -> None:
    """Makes the task's configuration in a checkpoint that another fairseq wrote fit the one
    installed (in place): drops keys that are unknown here, such as `seed` on 0.12.2, and
    adds those that fairseq main reads and checkpoints of 0.12.2 lack."""
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    known = OmegaConf.structured(TASK_DATACLASS_REGISTRY[task_cfg._name])
    with open_dict(task_cfg):
        _drop_unknown(task_cfg, known)
        for key in ("multi_corpus_keys", "multi_corpus_sampling_weights"):
            if key in known.keys() and key not in task_cfg:
                task_cfg[key] = None


def _drop_unknown(cfg, known) -> None:
    names = set(known.keys()) | {"_name"}
    for key in list(cfg.keys()):
        if key not in names:
            del cfg[key]
        elif OmegaConf.is_dict(cfg[key]) and OmegaConf.is_dict(known._get_node(key)):
            _drop_unknown(cfg[key], known._get_node(key))
