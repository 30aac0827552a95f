"""varan-infer: decodes with fairseq's own decoder and prints the WER.

Takes the overrides of fairseq's examples/speech_recognition/new/infer.py, on every
version of Python and fairseq. Paths are relative to where it is called.
"""

import argparse
import ast
import json
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import varan_fairseq  # noqa: F401  (registers the models)

from .. import compat
from ..checkpoint import read_state
from ..files import cell, refuse_file, write_lines, written_whole
from ..inference import training_post_process
from ..method.combine import CTC_RULES
from . import (
    add_reading_options,
    beside,
    quieten,
    reading_overrides,
    results_name,
    run,
    setting_name,
)
from .decoder import check_data, check_decoder, check_options, plain, processor_class, settings

USAGE = """\
varan-infer common_eval.path=CHECKPOINT task.data=DATA dataset.gen_subset=SUBSET
       [decoding.type=kenlm decoding.lmpath=LM decoding.lexicon=LEXICON decoding.beam=500
       decoding.lmweight=2 decoding.wordscore=-1] [--combine RULE | --layer N] [key=value ...]
   or: the same with model.adapter=FOLDER model.w2v_path=BASE instead of common_eval.path"""

# What a decoding run means unless the command line says otherwise. A batch multiple of 1
# because fairseq drops the last batch otherwise.
DEFAULTS = {
    "common": {"log_format": "none"},
    "common_eval": {"quiet": True},
    "dataset": {"gen_subset": "test", "max_tokens": 4000000, "required_batch_size_multiple": 1},
    "distributed_training": {"distributed_world_size": 1},
}


def parse(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="varan-infer", usage=USAGE, description=__doc__)
    add_reading_options(parser, CTC_RULES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fairseq's overrides")
    args = parser.parse_intermixed_args(argv)  # overrides before and after options
    for override in args.overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is no override: wanted key=value")
    reading_overrides(args, CTC_RULES)  # a bad one is said first
    return args


def build_config(infer: Any, args: argparse.Namespace) -> Tuple[Any, str, Dict[str, Any]]:
    """The configuration of fairseq's decoder (its defaults, ours, the checkpoint's task,
    the command line), what is decoded, and its state."""
    dotlist = [override.lstrip("+") for override in args.overrides]
    for index, override in enumerate(dotlist):
        if override.startswith("task="):  # hydra's way to choose a task
            dotlist[index] = "task._name=" + override[len("task=") :]
    given = OmegaConf.from_dotlist(dotlist)
    path, base = _what_to_decode(given)
    if given.get("task", {}).get("data") in (None, ""):
        raise ValueError("task.data is not set: give the folder with the manifests")
    given.task.data = str(given.task.data)

    defaults = OmegaConf.create(DEFAULTS)
    defaults.common.cpu = not torch.cuda.is_available()
    try:
        config = OmegaConf.merge(OmegaConf.structured(infer.InferConfig), defaults)
        wanted = _literal(given)
        overrides = {**wanted, **reading_overrides(args, CTC_RULES)}
        state = read_state(path, overrides, base, ("varan_ctc",))
        _refuse_unknown(wanted, state["cfg"])
        config.common_eval.post_process = training_post_process(state["cfg"])
        config.task = OmegaConf.create(OmegaConf.to_container(state["cfg"].task, resolve=True))
        config = OmegaConf.merge(config, given)
    except OmegaConfBaseException as error:
        raise ValueError(f"bad override: {str(error).splitlines()[0]}") from error
    # fairseq looks into this file once more, for adapters of its own
    config.common_eval.path = base if os.path.isdir(path) else path
    return config, path, state


def _results_name(config: Any, path: str, args: argparse.Namespace) -> str:
    decoding, lm = config.decoding, []
    if plain(decoding.type) != "viterbi":
        lm = [os.path.splitext(os.path.basename(decoding.lmpath))[0]]
        short = {"lmweight": "lw", "wordscore": "ws", "beam": "beam"}
        lm += [f"{word}{decoding[key]:g}" for key, word in short.items()]
    overrides = _literal(config) or None
    if overrides is not None:
        overrides = "-".join(f"{key}_{value}" for key, value in overrides.items())
    parts = [config.dataset.gen_subset, plain(decoding.type), *lm, *setting_name(path, args)]
    return results_name("decode", *parts, overrides)


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


def _literal(given) -> Dict[str, Any]:
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


def decode(argv: Optional[List[str]]) -> None:
    args = parse(argv)
    infer = compat.import_infer()
    quieten()
    config, path, state = build_config(infer, args)
    check_options(config)
    check_decoder(config.decoding)
    results = config.decoding.results_path
    if results is None:
        results = os.path.join(beside(path), _results_name(config, path, args))
    refuse_file(results)
    subset = config.dataset.gen_subset
    manifest = check_data(config.task, subset, state)
    longest = max(samples for _, samples in manifest.entries)
    if config.dataset.max_tokens is not None:
        config.dataset.max_tokens = max(config.dataset.max_tokens, longest)

    with written_whole(results, ("hypotheses.tsv", "scores.json")) as partial:
        config.decoding.results_path = partial
        OmegaConf.set_struct(config, True)
        with torch.no_grad(), processor_class(infer, state, manifest)(config) as processor:
            for sample in processor:
                processor.process_sample(sample)
        scored = len(processor.hypotheses)
        if scored != len(manifest.entries):
            raise ValueError(
                f"scored {scored} of the {len(manifest.entries)} utterances in {subset}.tsv: "
                "options such as task.min_sample_size leave some out"
            )
        if not processor.total_length:
            raise ValueError(
                f"the transcripts of {subset} have no words after common_eval.post_process="
                f"{config.common_eval.post_process}: there is no WER"
            )
        scores = {
            "checkpoint": path,
            "subset": subset,
            "decoder": plain(config.decoding.type),
            "decoding": settings(config.decoding),
            "post_process": config.common_eval.post_process,
            "model_overrides": _literal(config),
            "reading": reading_overrides(args, CTC_RULES) or "as trained",
            "utterances": scored,
            "wer": 100 * processor.total_errors / processor.total_length,
            "words": processor.total_length,
            "uer": 100 * processor.unit_errors / max(processor.unit_total, 1),
            "units": processor.unit_total,
        }
        rows = (
            f"{cell(path)}\t{cell(processor.hypotheses[index])}"
            for index, (path, _) in enumerate(manifest.entries)
        )
        write_lines(os.path.join(partial, "hypotheses.tsv"), ["id\thypothesis", *rows])
        write_lines(os.path.join(partial, "scores.json"), [json.dumps(scores, indent=2)])
    print(
        f"WER {scores['wer']:.2f}%  UER {scores['uer']:.2f}%  {scored} utterances, "
        f"{scores['words']} words, {scores['units']} units -> {results}"
    )


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-infer", decode, argv)


if __name__ == "__main__":
    sys.exit(main())
