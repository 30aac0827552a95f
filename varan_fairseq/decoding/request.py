"""What a decoding run is asked for: fairseq's options and a checkpoint."""

import ast
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import yaml
from fairseq import tasks
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..adapters.file import adapter_state
from ..data.checks import MAX_UNKNOWN
from ..finetuned.load import model_from_state, read_state, training_post_process
from ..finetuned.results import reading_overrides
from ..method.choices import CTC_RULES
from ..runtime import fairseq_compat
from ..runtime.files import file_state
from ..runtime.pickles import state_labels
from . import sweep
from .shards import Shard
from .words import check_post_process

# What a decoding run means unless the command line says otherwise.
DEFAULTS = {
    "common_eval": {"quiet": True},
    "dataset": {"gen_subset": "test", "max_tokens": 4000000, "num_workers": 0},
}
# Options whose values are texts: a path may be called no, @x or [v1] set.
_TEXTS = (
    *("task.data", "task.labels", "task.label_dir", "task.target_dictionary", "common.user_dir"),
    *("common_eval.path", "common_eval.post_process", "common_eval.model_overrides"),
    *("decoding.results_path", "decoding.lmpath", "decoding.lexicon", "decoding.type"),
    *("model.adapter", "model.w2v_path", "dataset.gen_subset"),
)
# Options of the task that would leave out or cut what is scored.
_PARTS = ("min_sample_size", "max_sample_size")


@dataclass(frozen=True)
class Options:
    """What a decoding run is asked for.

    overrides: fairseq's, KEY=VALUE. combine, layer: read the layers otherwise than trained. sweep:
    the split to choose language-model weights on. jobs: processes of a KenLM search. emissions:
    folder to cache them in; default: beside the checkpoint. shards: processes that run the encoder.
    shard: run the encoder on this part alone.
    """

    overrides: Sequence[str]
    combine: Optional[str] = None
    layer: Optional[int] = None
    sweep: Optional[str] = None
    jobs: int = os.cpu_count() or 1
    emissions: Optional[str] = None
    shards: int = 1
    shard: Optional[Shard] = None

    def arguments(self) -> List[str]:
        """The same as arguments of varan-infer, without shards."""
        named = {"combine": self.combine, "layer": self.layer, "sweep": self.sweep}
        named.update(jobs=self.jobs, emissions=self.emissions)
        given = [f"--{name}={value}" for name, value in named.items() if value is not None]
        return [*given, *self.overrides]


def _subsets(config: Any) -> List[str]:
    """Names of the splits to decode."""
    return [name for name in str(config.dataset.gen_subset).split(",") if name]


class Decoding:
    """config: fairseq's, of its decoder. path: the checkpoint, or the folder of an adapter, whose
    pre-trained checkpoint is base. states: of these files, before they were read. state: fairseq's,
    until it became the model. grid: settings to sweep over. reading, model_overrides: how the model's
    options differ from those of training. results: folder asked for, or None."""

    def __init__(
        self,
        options: Options,
        config: Any,
        path: str,
        base: Optional[str],
        state: Dict[str, Any],
        *,
        states: Sequence[Any],
        grid: List[Dict[str, float]],
        reading: Dict[str, Any],
        model_overrides: Dict[str, Any],
    ):
        self.options, self.config, self.path, self.base = options, config, path, base
        self.states = states
        self.labels = state_labels(state)
        self.mask_group_norm = bool(state["cfg"].model.get("mask_group_norm", True))
        self.max_unknown = state["cfg"].model.get("max_unknown_labels", MAX_UNKNOWN)
        self.state: Any = state
        self.model: Any = None
        self.task: Any = None
        self.subsets = _subsets(config)
        self.grid, self.reading, self.model_overrides = grid, reading, model_overrides
        self.results = config.decoding.results_path

    def load(self) -> None:
        """The model, once, where it runs."""
        if self.model is not None:
            return
        self.task = tasks.setup_task(self.config.task)
        self.model, _, _ = model_from_state(self.state, self.path, self.task)
        self.state = None
        self.model.make_generation_fast_()
        if self.config.common.fp16:
            self.model.half()


def build(options: Options) -> Decoding:
    """The configuration of fairseq's decoder: its defaults, ours, the checkpoint's task, the
    overrides. Raises ValueError for what would fail after the decoding, or here."""
    for override in options.overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is not an override: expected key=value")
    for name in ("jobs", "shards"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)}: expected 1 or more")
    reading = reading_overrides(options.combine, options.layer, CTC_RULES)
    overrides = list(options.overrides)
    grid: List[Dict[str, float]] = []
    if options.sweep:
        overrides, grid = sweep.weight_grid(overrides)
    else:
        sweep.refuse_values(overrides)
    given = _given(overrides)
    path, base = _what_to_decode(given)
    if given.get("task", {}).get("data") in (None, ""):
        raise ValueError("task.data is not set: give the folder with the manifests")
    given.task.data = str(given.task.data)
    if "gen_subset" in given.get("dataset", {}) and not _subsets(given):
        raise ValueError("dataset.gen_subset is empty: give the name of a manifest, as test")
    if given.get("common", {}).get("bf16"):
        raise ValueError("common.bf16=true changes nothing of decoding: use common.fp16 on a GPU")
    for key in _PARTS:
        if key in given.task:
            raise ValueError(
                f"task.{key} is not for decoding: every utterance of a manifest is scored, whole"
            )

    defaults = OmegaConf.create(DEFAULTS)
    defaults.common = {"cpu": not torch.cuda.is_available()}
    try:
        infer = fairseq_compat.import_infer()
        config = OmegaConf.merge(OmegaConf.structured(infer.InferConfig), defaults)
        wanted = _literal(given)
        states = [adapter_state(path) if os.path.isdir(path) else file_state(path)]
        states.append(file_state(base))
        state = read_state(path, {**wanted, **reading}, base, ("varan_ctc",))
        _refuse_unknown(wanted, state["cfg"])
        config.common_eval.post_process = training_post_process(state["cfg"])
        config.task = OmegaConf.create(OmegaConf.to_container(state["cfg"].task, resolve=True))
        config = OmegaConf.merge(config, given)
    except OmegaConfBaseException as error:
        raise ValueError(f"bad override: {str(error).splitlines()[0]}") from error
    check_post_process(config.common_eval.post_process, "common_eval.post_process")
    if config.common.fp16 and (config.common.cpu or not torch.cuda.is_available()):
        raise ValueError("common.fp16=true needs a GPU: leave it out on a CPU")
    decoding = Decoding(
        options,
        config,
        path,
        base,
        state,
        states=states,
        grid=grid,
        reading=reading,
        model_overrides=wanted,
    )
    if options.sweep:
        sweep.check_split(options.sweep, decoding.subsets, config.decoding)
    return decoding


def _literal(given) -> Dict[str, Any]:
    """The option common_eval.model_overrides. Raises ValueError if it is not a dictionary."""
    text = given.get("common_eval", {}).get("model_overrides", "{}")
    try:
        overrides: Any = (
            ast.literal_eval(text) if isinstance(text, str) else OmegaConf.to_container(text)
        )
    except (SyntaxError, ValueError):
        overrides = None
    if not isinstance(overrides, dict):
        raise ValueError(f"common_eval.model_overrides={text}: expected a Python dictionary")
    if "common_eval" in given:  # as typed it is not a string: OmegaConf reads dictionaries
        given.common_eval.model_overrides = repr(overrides)
    return overrides


def _given(overrides: List[str]) -> Any:
    """Overrides as a configuration."""
    config = OmegaConf.create()
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        key = "task._name" if key == "task" else key  # hydra's way to choose a task
        try:
            parsed: Any = _text(value)
            if key == "dataset.gen_subset":
                parsed = str(parsed).strip("[]")
            elif key not in _TEXTS:
                parsed = OmegaConf.from_dotlist([f"value={value}"]).value
            OmegaConf.update(config, key, parsed, merge=True)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
            what = str(error).splitlines()[0]
            raise ValueError(f"bad override {override!r}: {what}") from None
    return config


def _text(value: str) -> Optional[str]:
    """A value that is a text, whatever YAML would make of it: quotes around it are not of it."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return None if value == "null" else value


def _what_to_decode(given: Any) -> Tuple[str, Optional[str]]:
    """(checkpoint, None), or (folder of an adapter, its base)."""
    path, model = given.get("common_eval", {}).get("path"), given.pop("model", {})
    base = model.get("w2v_path")
    unknown = set(model) - {"adapter", "w2v_path"}
    if unknown:
        raise ValueError(
            f"model.{min(unknown)} is not for decoding: change a trained model's options by "
            "common_eval.model_overrides, or --combine and --layer"
        )
    if model.get("adapter"):
        if path:
            raise ValueError("common_eval.path and model.adapter are both set: give one of them")
        return str(model.adapter), base
    if not path:
        raise ValueError(
            "common_eval.path is not set: give a fine-tuned checkpoint, or model.adapter and "
            "model.w2v_path"
        )
    return str(path), None if base is None else str(base)


def _refuse_unknown(overrides: Dict[str, Any], saved: Any) -> None:
    """fairseq passes over options that a checkpoint does not have."""
    known = {key for section in ("model", "task", "criterion") for key in saved[section] or {}}
    known.add("max_unknown_labels")  # younger than some checkpoints
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(
            f"common_eval.model_overrides: {', '.join(map(repr, unknown))} is not an option of the "
            "checkpoint's model, task or criterion"
        )
