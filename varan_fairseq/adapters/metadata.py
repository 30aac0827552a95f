"""The metadata of an adapter, which is not trusted: only known keys with validated values are used.

fairseq `eval`s some of its options and opens files that others name. Those are never taken
from metadata, nor is anything that this version does not know.
"""

import json
import re
from typing import Any, Dict, List, Sequence, Set

from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

MOST_BYTES = 2**24  # of metadata
LONGEST = 1000  # characters of a value
LARGEST = 1e9  # number
MOST_PATTERNS, MOST_STARS = 64, 4  # of lora_targets: globs may backtrack on old Pythons

# The models an adapter may be of, and the task of each.
TASKS = {
    "varan_ctc": "audio_finetuning",
    "varan_classification": "utterance_classification",
    "varan_regression": "utterance_regression",
}

# Of a model, everything but files, and freeze_regex, whose matching may take for ever.
_NOT_OF_MODEL = {"w2v_path", "w2v_args", "data", "adapter", "freeze_regex"}
_OF_TASK = {"labels", "sample_rate", "normalize", "enable_padding"}
_OF_TASK |= {"max_sample_size", "min_sample_size", "autoregressive"}
_OF_CRITERION = {"prior", "prior_df", "prior_nc", "prior_p", "beta", "divergence"}
_OF_CRITERION |= {"zero_infinity", "sentence_avg", "post_process"}
_OF_CRITERION |= {"label_smoothing", "class_weights", "regression_loss"}
_OTHER_CRITERIONS = {"ctc", "cross_entropy", "label_smoothed_cross_entropy"}

_PATTERNS = {
    "post_process": r"letter|sentencepiece|wordpiece|silence|subword_nmt|@@ ?|_EOW|none",
    "labels": r"\w[\w.-]*",  # becomes a part of file names
}


def parse_metadata(data: bytes) -> Any:
    """JSON -> its content, with numbers that are finite. Raises ValueError."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def known_metadata(metadata: Dict[str, Any]) -> Dict[str, Any]:
    """Metadata with what it may say and nothing else: base, num_updates, config, labels,
    weights. Raises ValueError, naming key and value, for what `write_adapter` would not have
    written."""
    base = {
        "file": _text(metadata, ("base", "file"), r"[^/\\\x00-\x1f\x7f]{1,255}"),
        "sha256": _text(metadata, ("base", "sha256"), r"[0-9a-f]{64}"),
        "kind": _text(metadata, ("base", "kind"), r"\w+"),
    }
    weights = {
        "file": _text(metadata, ("weights", "file"), r"adapter-[0-9a-f]{12}\.safetensors"),
        "sha256": _text(metadata, ("weights", "sha256"), r"[0-9a-f]{64}"),
    }
    updates = _get(metadata, ("num_updates",))
    if type(updates) is not int or not 0 <= updates <= LARGEST:
        raise ValueError(f"num_updates is {updates!r}, expected a number of updates")
    model = _get(metadata, ("config", "model", "_name"))
    task = _get(metadata, ("config", "task", "_name"))
    if not isinstance(model, str) or TASKS.get(model) != task:
        wanted = " or ".join(f"model {model} and task {task}" for model, task in TASKS.items())
        raise ValueError(f"it was made with model {model!r} and task {task!r}, expected {wanted}")
    return {
        "base": base,
        "num_updates": updates,
        "config": known_config(_get(metadata, ("config",))),
        "labels": _labels(_get(metadata, ("labels",))),
        "weights": weights,
    }


def known_config(config: Dict[str, Any]) -> Dict[str, Any]:
    """The sections model, task and criterion of a configuration with what metadata may say of
    them, by the types that fairseq's options have. Raises ValueError."""
    model = MODEL_DATACLASS_REGISTRY[config["model"]["_name"]]
    task = TASK_DATACLASS_REGISTRY[config["task"]["_name"]]
    keys = set(model.__dataclass_fields__) - _NOT_OF_MODEL
    result = {
        "model": _section("model", config["model"], model, keys),
        "task": _section("task", config["task"], task, _OF_TASK),
        "criterion": {},
    }
    criterion = config.get("criterion") or {}
    name = criterion.get("_name") if isinstance(criterion, dict) else None
    if name in TASKS or name in _OTHER_CRITERIONS:
        options = CRITERION_DATACLASS_REGISTRY[name]
        result["criterion"] = _section("criterion", criterion, options, _OF_CRITERION)
    return result


def shape_options(model: str, lora: bool = True, younger: bool = True) -> List[str]:
    """Options of a model, by its name, that decide the shapes of its weights, as their declarations
    say. lora: those of low-rank factors too. younger: those too that older files do not have."""
    fields = MODEL_DATACLASS_REGISTRY[model].__dataclass_fields__
    kinds = ("reading", "lora") if lora else ("reading",)
    return [
        name
        for name, declared in fields.items()
        if declared.metadata.get("shapes") in kinds
        and (younger or not declared.metadata["younger"])
    ]


def _section(name: str, given: Any, options: Any, keys: Set[str]) -> Dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"config.{name} is not an object")
    typed, result = OmegaConf.structured(options), {"_name": given["_name"]}
    for key in sorted(keys & given.keys() & set(options.__dataclass_fields__)):
        value = given[key]
        where = f"config.{name}.{key} is {_short(value)}"
        if isinstance(value, (dict, list)):
            raise ValueError(f"{where}, expected one value")
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
            raise ValueError(f"{where}, expected at most {LARGEST:g}")
        if isinstance(value, str) and (len(value) > LONGEST or "${" in value):
            raise ValueError(f"{where}, expected at most {LONGEST} characters and no interpolation")
        if value is not None and not re.fullmatch(_PATTERNS.get(key, r"[\s\S]*"), str(value)):
            raise ValueError(f"{where}, which is none of its values")
        try:
            typed[key] = value
        except (OmegaConfBaseException, ValueError, TypeError):
            raise ValueError(f"{where}, which is of another type than the option") from None
        result[key] = value
    required = shape_options(given["_name"], younger=False) if name == "model" else []
    missing = sorted(set(required) - result.keys())
    if missing:
        raise ValueError(f"config.model.{missing[0]} is missing")
    targets = result.get("lora_targets")
    if targets is not None:
        patterns = targets.split(",")
        if len(patterns) > MOST_PATTERNS or max(p.count("*") for p in patterns) > MOST_STARS:
            raise ValueError(
                f"config.model.lora_targets is {_short(targets)}, expected at most {MOST_PATTERNS} "
                f"patterns of at most {MOST_STARS} stars"
            )
    return result


def _labels(labels: Any) -> list:
    if not isinstance(labels, list) or not labels:
        raise ValueError(f"labels is {_short(labels)}, expected a list of [symbol, count]")
    for entry in labels:
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or not isinstance(entry[0], str)
            or not 0 < len(entry[0]) <= LONGEST
            or type(entry[1]) is not int
        ):
            raise ValueError(f"a label is {_short(entry)}, expected [symbol, count]")
    symbols = [symbol for symbol, _ in labels]
    if len(set(symbols)) != len(symbols):
        raise ValueError("a label is there twice")
    return labels


def _get(metadata: Dict[str, Any], keys: Sequence[str]) -> Any:
    value = metadata
    for index, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"{'.'.join(keys[: index + 1])} is missing")
        value = value[key]
    return value


def _text(metadata: Dict[str, Any], keys: Sequence[str], pattern: str) -> str:
    value = _get(metadata, keys)
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{'.'.join(keys)} is {_short(value)}, which it never is")
    return value


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + ".."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
