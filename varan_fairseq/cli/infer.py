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
from ..checkpoint import model_from_state, read_state
from ..manifest import check_split, write_lines
from ..method.combine import CTC_RULES
from . import add_reading_options, reading_overrides, run, written_whole

USAGE = """\
varan-infer common_eval.path=CHECKPOINT task.data=DATA dataset.gen_subset=SUBSET
       [decoding.type=kenlm decoding.lmpath=LM decoding.lexicon=LEXICON decoding.beam=500
       decoding.lmweight=2 decoding.wordscore=-1] [--combine RULE | --layer N] [key=value ...]
   or: the same with model.adapter=FOLDER model.w2v_path=BASE instead of common_eval.path"""

# What a decoding run means unless the command line says otherwise. A batch multiple of 1
# because fairseq drops the last batch otherwise.
DEFAULTS = {
    "common": {"log_format": "none"},
    "common_eval": {"post_process": "letter", "quiet": True},
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
    if not given.get("task", {}).get("data"):
        raise ValueError("task.data is not set: give the folder with the manifests")

    defaults = OmegaConf.create(DEFAULTS)
    defaults.common.cpu = not torch.cuda.is_available()
    try:
        config = OmegaConf.merge(OmegaConf.structured(infer.InferConfig), defaults)
        overrides = {**_literal(given), **reading_overrides(args, CTC_RULES)}
        state = read_state(path, overrides, base, ("varan_ctc",))
        config.task = OmegaConf.create(OmegaConf.to_container(state["cfg"].task, resolve=True))
        config = OmegaConf.merge(config, given)
    except OmegaConfBaseException as error:
        raise ValueError(f"bad override: {str(error).splitlines()[0]}") from error
    # fairseq looks into this file once more, for adapters of its own
    config.common_eval.path = base or path
    if config.decoding.results_path is None:
        name = f"decode-{config.dataset.gen_subset}-{_plain(config.decoding.type)}"
        config.decoding.results_path = os.path.join(os.path.dirname(path) or ".", name)
    return config, path, state


def _what_to_decode(given: Any) -> Tuple[str, Optional[str]]:
    """(checkpoint, None), or (folder of an adapter, its base)."""
    path, model = given.get("common_eval", {}).get("path"), given.pop("model", {})
    unknown = set(model) - {"adapter", "w2v_path"}
    if unknown:
        raise ValueError(
            f"model.{min(unknown)} is not for decoding: change a trained model's options by "
            "common_eval.model_overrides, or --combine and --layer"
        )
    if model.get("adapter"):
        if path:
            raise ValueError("common_eval.path and model.adapter are both set: give one of them")
        return str(model.adapter), model.get("w2v_path")
    if not path:
        raise ValueError(
            "common_eval.path is not set: give a fine-tuned checkpoint, or model.adapter and "
            "model.w2v_path"
        )
    return str(path), None


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
    return overrides


def _plain(choice) -> str:
    return str(getattr(choice, "value", choice))


def check_decoder(decoding) -> None:
    """Raises before anything is loaded if a language-model decoder lacks something."""
    if _plain(decoding.type) == "viterbi":
        return
    try:
        import flashlight.lib.text  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(
            f"decoding.type={_plain(decoding.type)} needs flashlight-text: pip install flashlight-text"
        ) from error
    for key in ("lmpath", "lexicon"):
        path = None if OmegaConf.is_missing(decoding, key) else decoding[key]
        if path is None and key == "lmpath":
            raise ValueError("decoding.lmpath is not set: give the language model")
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f"decoding.{key}={path}: no such file")


def processor_class(infer: Any, state: Dict[str, Any]):
    """fairseq's InferenceProcessor on a checkpoint's state that was read already, which also
    keeps every hypothesis and counts units."""
    import editdistance
    from fairseq import utils

    class Processor(infer.InferenceProcessor):
        def __init__(self, cfg):
            self.hypotheses = {}
            self.unit_errors = self.unit_total = 0
            super().__init__(cfg)

        def load_model_ensemble(self):
            model, saved, _ = model_from_state(state, self.cfg.common_eval.path, self.task)
            self.optimize_model(model)
            return [model], saved

        def process_sentence(self, sample, hypo, sid, batch_id):
            hypo["score"] = torch.tensor(float(hypo["score"]))  # KenLM gives a plain float
            units = [int(unit) for unit in hypo["tokens"]]
            target = utils.strip_pad(sample["target"][batch_id], self.tgt_dict.pad()).tolist()
            self.unit_errors += editdistance.eval(units, target)
            self.unit_total += len(target)
            words = infer.post_process(
                self.tgt_dict.string(hypo["tokens"].int().cpu()), self.cfg.common_eval.post_process
            )
            self.hypotheses[sid] = " ".join(hypo["words"]) if "words" in hypo else words
            return super().process_sentence(sample=sample, hypo=hypo, sid=sid, batch_id=batch_id)

    return Processor


def decode(argv: Optional[List[str]]) -> None:
    args = parse(argv)
    infer = compat.import_infer()
    config, path, state = build_config(infer, args)
    check_decoder(config.decoding)
    task, subset = config.task, config.dataset.gen_subset
    # fairseq's HuBERT task has a list of labels
    labels = task.labels if isinstance(task.labels, str) else task.labels[0]
    manifest = check_split(task.data, subset, labels, task.sample_rate)

    results = config.decoding.results_path
    with written_whole(results) as partial:
        config.decoding.results_path = partial
        OmegaConf.set_struct(config, True)
        with torch.no_grad(), processor_class(infer, state)(config) as processor:
            for sample in processor:
                processor.process_sample(sample)
        scored = len(processor.hypotheses)
        if scored != len(manifest.entries):
            raise ValueError(
                f"scored {scored} of the {len(manifest.entries)} utterances in {subset}.tsv: "
                "options such as task.min_sample_size leave some out"
            )
        scores = {
            "checkpoint": path,
            "subset": subset,
            "decoder": _plain(config.decoding.type),
            "reading": reading_overrides(args, CTC_RULES) or "as trained",
            "utterances": scored,
            "wer": 100 * processor.total_errors / max(processor.total_length, 1),
            "words": processor.total_length,
            "uer": 100 * processor.unit_errors / max(processor.unit_total, 1),
            "units": processor.unit_total,
        }
        rows = (
            f"{path}\t{processor.hypotheses[index]}"
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
