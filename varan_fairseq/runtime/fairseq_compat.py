"""Everything that differs between versions of fairseq, torch and Python: in one place."""

import contextlib
import dataclasses
import importlib
import logging
import os
import sys
import threading
import types
from typing import Any, Optional

import fairseq
import torch
from omegaconf import OmegaConf, open_dict
from torch import Tensor
from torch.nn import functional as F


def option_or(cfg: Any, key: str, default: Any) -> Any:
    """`cfg.key`, or the default where a run of an older version has no such key (for which
    omegaconf 2.0 answers None)."""
    value = getattr(cfg, key, None)
    return default if value is None else value


def import_infer():
    """The module of fairseq's own decoder, examples/speech_recognition/new/infer.py.
    Raises ModuleNotFoundError if this fairseq came without its examples."""
    name = "speech_recognition.new.infer"
    if find_example(name) is None:
        raise ModuleNotFoundError(
            "this fairseq came without examples/speech_recognition/new/infer.py (looked in "
            f"{' and '.join(_example_roots())}): install fairseq==0.12.2 or ve-fairseq==0.12.3"
        )
    level = logging.getLogger().level
    try:
        return import_example(name)
    finally:
        logging.getLogger().setLevel(level)  # it sets that of all libraries to INFO


def import_decoder():
    """The module of fairseq's decoders, examples/speech_recognition/new/decoders/decoder.py."""
    import_infer()  # says what is missing
    return import_example("speech_recognition.new.decoders.decoder")


@contextlib.contextmanager
def without_cuda():
    """While active, tensors that fairseq's neural language models move to the GPU whatever
    stay where they are, if there is none."""
    if torch.cuda.is_available():
        yield
        return
    with _PATCHING:  # or one thread would take another's patch for what to put back
        plain = Tensor.cuda
        Tensor.cuda = lambda self, *unused, **also: self
        try:
            yield
        finally:
            Tensor.cuda = plain


_PATCHING = threading.RLock()


def find_example(name: str) -> Optional[str]:
    """Path of a module below fairseq's examples, in a pip install or a git checkout, or None."""
    for root in _example_roots():
        path = os.path.join(root, *name.split(".")) + ".py"
        if os.path.isfile(path):
            return path
    return None


def import_example(name: str):
    """Imports a module below fairseq's examples, which `find_example` found.

    Works where fairseq's own command line cannot: on Python 3.11+ (its dataclasses have
    instances as defaults) and from a pip install (`examples` is not importable there, and
    any `./examples` would shadow it).
    """
    package = types.ModuleType("examples")
    path = find_example(name) or ""
    package.__path__ = [root for root in _example_roots() if path.startswith(root)]
    shadowed = sys.modules.get("examples")
    sys.modules["examples"] = package
    try:
        with _instance_defaults_allowed():
            return importlib.import_module(f"examples.{name}")
    finally:
        if shadowed is None:
            del sys.modules["examples"]
        else:
            sys.modules["examples"] = shadowed


def _example_roots():
    root = os.path.dirname(os.path.abspath(fairseq.__file__))
    return [os.path.join(root, "examples"), os.path.join(os.path.dirname(root), "examples")]


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
    """Clears what fairseq keeps of a run in its modules, where a second run in the same process, as
    in hydra's multirun, finds it: the best score, after which no best checkpoint is saved, and
    TensorBoard's writers, whose folders are relative to the first run's."""
    for module, name in (
        ("fairseq.checkpoint_utils", "save_checkpoint"),
        ("fairseq_cli.train", "should_stop_early"),
    ):
        function = getattr(sys.modules.get(module), name, None)
        if function is not None:
            function.__dict__.pop("best", None)
    bars = sys.modules.get("fairseq.logging.progress_bar")
    writers = getattr(bars, "_tensorboard_writers", {})
    for writer in writers.values():
        writer.close()
    writers.clear()


def fit_task_config(task_cfg) -> None:
    """Makes the task's configuration in a checkpoint that another fairseq wrote fit the one
    installed (in place): drops keys that are unknown here, such as `seed` on 0.12.2, and
    adds those that fairseq main reads and checkpoints of 0.12.2 lack."""
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    known = OmegaConf.structured(TASK_DATACLASS_REGISTRY[task_cfg._name])
    with open_dict(task_cfg):
        _drop_unknown(task_cfg, known)
        for key in ("multi_corpus_keys", "multi_corpus_sampling_weights"):
            if key in known and key not in task_cfg:
                task_cfg[key] = None


def _drop_unknown(cfg, known) -> None:
    names = set(known.keys()) | {"_name"}
    for key in list(cfg.keys()):
        if key not in names:
            del cfg[key]
        elif OmegaConf.is_dict(cfg[key]) and OmegaConf.is_dict(known._get_node(key)):
            _drop_unknown(cfg[key], known._get_node(key))


def whole_config(section: Any) -> Optional[Any]:
    """The configuration of a training run, of which fairseq hands a model or criterion this
    section; None for a section on its own."""
    node = section
    while node is not None and node.__dict__.get("_parent") is not None:
        node = node.__dict__["_parent"]
    whole = node is not section and OmegaConf.is_dict(node)
    return node if whole and {"checkpoint", "optimization", "model"} <= set(node) else None


@contextlib.contextmanager
def conformer_buildable():
    """While active, wav2vec 2.0 Conformers with relative or rotary positions can be built:
    fairseq main hands their encoder arguments that it does not take."""
    from fairseq.models.wav2vec import wav2vec2

    plain = wav2vec2.ConformerEncoder

    class ConformerEncoder(plain):
        def build_encoder_layer(self, args, **unused):
            return plain.build_encoder_layer(self, args)

        def extract_features(self, x, padding_mask=None, tgt_layer=None, **unused):
            return plain.extract_features(self, x, padding_mask, tgt_layer)

    wav2vec2.ConformerEncoder = ConformerEncoder
    try:
        yield
    finally:
        wav2vec2.ConformerEncoder = plain


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float
) -> Tensor:
    """query, key, value [B, H, T, d]; bias, added to the scores, [B, H, T, T] -> [B, H, T, d].
    torch's own where there is one (2.0)."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(query, key, value, bias, dropout)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1) + bias
    return F.dropout(scores.float().softmax(-1).to(value.dtype), dropout) @ value
