"""What varan-infer is asked for: fairseq's options and a checkpoint."""

import argparse
import ast
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq import tasks
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..data.check import MAX_UNKNOWN
from ..decoding import shards, sweep
from ..decoding.words import check_post_process
from ..finetuned.load import model_from_state, read_state, training_post_process
from ..method.combine import CTC_RULES
from ..runtime import fairseq_compat
from ..runtime.pickles import state_labels
from . import add_reading_options, reading_overrides

USAGE = """\
varan-infer common_eval.path=CHECKPOINT task.data=DATA dataset.gen_subset=SUBSET[,SUBSET ..]
       [decoding.type=kenlm decoding.lmpath=LM decoding.lexicon=LEXICON decoding.beam=500
       decoding.lmweight=2 decoding.wordscore=-1] [--combine RULE | --layer N] [key=value ...]
   or: the same with model.adapter=FOLDER model.w2v_path=BASE instead of common_eval.path
   or: the same with --sweep DEV decoding.lmweight=0.5,1,2 decoding.wordscore=-1,0,1"""

# What a decoding run means unless the command line says otherwise.
DEFAULTS = {
    "common_eval": {"quiet": True},
    "dataset": {"gen_subset": "test", "max_tokens": 4000000, "num_workers": 0},
}
# Options of the task that would leave out or cut what is scored.
_PARTS = ("min_sample_size", "max_sample_size")


class Decoding:
    """args: of the command line. config: fairseq's, of its decoder. path: the checkpoint, or
    the folder of an adapter, whose pre-trained checkpoint is base. state: fairseq's, until it
    became the model. grid: settings to sweep over. results: folder asked for, or None."""

    def __init__(self, args, config: Any, path: str, base: Optional[str], state: Dict[str, Any]):
        self.args, self.config, self.path, self.base = args, config, path, base
        self.labels = state_labels(state)
        self.max_unknown = state["cfg"].model.get("max_unknown_labels", MAX_UNKNOWN)
        self.state: Optional[Dict[str, Any]] = state
        self.model = self.task = None
        self.subsets = [name for name in str(config.dataset.gen_subset).split(",") if name]
        self.grid: List[Dict[str, float]] = []
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


def parse(argv: Optional[List[str]], description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="varan-infer", usage=USAGE, description=description)
    add_reading_options(parser, CTC_RULES)
    parser.add_argument(
        "--sweep",
        metavar="DEV",
        help="choose language-model weights on this split: the lowest WER of all combinations of "
        "the values given with commas",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes of a KenLM search"
    )
    parser.add_argument(
        "--emissions",
        metavar="FOLDER",
        help="where what the model says of the audio is kept for the next decoding; default: "
        "beside the checkpoint",
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=1,
        help="processes that run the encoder, each on a GPU if there are some",
    )
    parser.add_argument(
        "--shard",
        type=shards.shard,
        metavar="I/N",
        help="for a cluster: run the encoder on this part alone; --shards N then joins them",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fairseq's overrides")
    args = parser.parse_intermixed_args(argv)  # overrides before and after options
    for override in args.overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is no override: wanted key=value")
    for name in ("jobs", "shards"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: wanted 1 or more")
    reading_overrides(args, CTC_RULES)  # a bad one is said first
    args.argv = list(sys.argv[1:] if argv is None else argv)
    return args


def build(args: argparse.Namespace) -> Decoding:
    """The configuration of fairseq's decoder: its defaults, ours, the checkpoint's task, the
    command line. Raises ValueError for what would fail after the decoding, or here."""
    overrides, grid = args.overrides, []
    if args.sweep:
        overrides, grid = sweep.grid(overrides)
    else:
        sweep.refuse_values(overrides)
    given = _given(overrides)
    path, base = _what_to_decode(given)
    if given.get("task", {}).get("data") in (None, ""):
        raise ValueError("task.data is not set: give the folder with the manifests")
    given.task.data = str(given.task.data)
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
        wanted = literal(given)
        state = read_state(
            path, {**wanted, **reading_overrides(args, CTC_RULES)}, base, ("varan_ctc",)
        )
        _refuse_unknown(wanted, state["cfg"])
        config.common_eval.post_process = training_post_process(state["cfg"])
        config.task = OmegaConf.create(OmegaConf.to_container(state["cfg"].task, resolve=True))
        config = OmegaConf.merge(config, given)
    except OmegaConfBaseException as error:
        raise ValueError(f"bad override: {str(error).splitlines()[0]}") from error
    check_post_process(config.common_eval.post_process, "common_eval.post_process")
    if config.common.fp16 and (config.common.cpu or not torch.cuda.is_available()):
        raise ValueError("common.fp16=true needs a GPU: leave it out on a CPU")
    decoding = Decoding(args, config, path, base, state)
    decoding.grid = grid
    if args.sweep:
        sweep.check_split(args.sweep, decoding.subsets, config.decoding)
    return decoding


def literal(given) -> Dict[str, Any]:
    """The option common_eval.model_overrides. Raises ValueError if it is no dictionary."""
    text = given.get("common_eval", {}).get("model_overrides", "{}")
    try:
        overrides = (
            ast.literal_eval(text) if isinstance(text, str) else OmegaConf.to_container(text)
        )
    except (SyntaxError, ValueError):
        overrides = None
    if not isinstance(overrides, dict):
        raise ValueError(f"common_eval.model_overrides={text}: wanted a Python dictionary")
    if "common_eval" in given:  # as typed it is no string: OmegaConf reads dictionaries
        given.common_eval.model_overrides = repr(overrides)
    return overrides


def _given(overrides: List[str]) -> Any:
    """Overrides as a configuration."""
    dotlist = [override.lstrip("+") for override in overrides]
    for index, override in enumerate(dotlist):
        if override.startswith("task="):  # hydra's way to choose a task
            dotlist[index] = "task._name=" + override[len("task=") :]
        if override.startswith("dataset.gen_subset="):  # commas make no list of it
            key, _, value = override.partition("=")
            dotlist[index] = f"{key}='{value.strip('[]')}'"
    return OmegaConf.from_dotlist(dotlist)


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
            f"common_eval.model_overrides: {', '.join(map(repr, unknown))} is no option of the "
            "checkpoint's model, task or criterion"
        )
