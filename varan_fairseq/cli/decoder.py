"""fairseq's own decoder as varan-infer runs it: checked first, and with more kept of it."""

import logging
import math
import os
from typing import Any, Dict, List

import editdistance
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process
from omegaconf import OmegaConf

from ..checkpoint import model_from_state
from ..data.check import MAX_UNKNOWN, check_dictionary, check_split, check_task, split_files
from ..data.manifest import Manifest, read_lines
from ..data.short import check_lengths
from ..pickles import state_labels

logger = logging.getLogger(__name__)

# What of decoding.* a language-model decoder depends on.
LM_OPTIONS = ("lmpath", "lexicon", "lmweight", "wordscore", "silweight", "unkweight", "unitlm")
LM_OPTIONS += ("beam", "beamthreshold", "beamsizetoken")


def check_options(config: Any) -> None:
    """Raises ValueError for what would fail after the decoding, or on this machine."""
    try:
        post_process("", config.common_eval.post_process)
    except NotImplementedError:
        raise ValueError(
            f"common_eval.post_process={config.common_eval.post_process}: wanted letter, "
            "sentencepiece, wordpiece, silence, subword_nmt, _EOW or none"
        ) from None
    if config.common.fp16 and config.common.cpu:
        raise ValueError("common.fp16=true needs a GPU: leave it out on a CPU")


def check_decoder(decoding) -> None:
    """Raises before anything is loaded if a language-model decoder lacks something."""
    if plain(decoding.type) == "viterbi":
        return
    try:
        import flashlight.lib.text  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(
            f"decoding.type={plain(decoding.type)} needs flashlight-text: pip install "
            "flashlight-text"
        ) from error
    for key in ("lmpath", "lexicon"):
        path = None if OmegaConf.is_missing(decoding, key) else decoding[key]
        if path is None and key == "lmpath":
            raise ValueError("decoding.lmpath is not set: give the language model")
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f"decoding.{key}={path}: no such file")
        if path is None and not decoding.unitlm:
            raise ValueError(
                "decoding.lexicon is not set: give the spelling of the words, or "
                "decoding.unitlm=true if the language model is one of labels"
            )


def processor_class(infer: Any, state: Dict[str, Any], manifest: Manifest):
    """fairseq's InferenceProcessor on a checkpoint's state that was read already, which also
    keeps every hypothesis and counts units. manifest: of what is decoded."""

    class Processor(infer.InferenceProcessor):
        def __init__(self, cfg):
            self.hypotheses = {}
            self.unit_errors = self.unit_total = 0
            try:
                super().__init__(cfg)
            except RuntimeError as error:  # as flashlight and KenLM say what they cannot read
                if plain(cfg.decoding.type) == "viterbi":
                    raise
                reason = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"decoding.lmpath={cfg.decoding.lmpath} lexicon={cfg.decoding.lexicon}: {reason}"
                ) from error

        def load_model_ensemble(self):
            model, saved, _ = model_from_state(state, self.cfg.common_eval.path, self.task)
            path = os.path.join(self.cfg.task.data, f"{self.cfg.dataset.gen_subset}.tsv")
            check_lengths(path, manifest, model.w2v_encoder.receptive_field, None)
            self.optimize_model(model)
            return [model], saved

        def process_sentence(self, sample, hypo, sid, batch_id):
            hypo["score"] = torch.tensor(float(hypo["score"]))  # KenLM gives a plain float
            units = [int(unit) for unit in hypo["tokens"]]
            if plain(self.cfg.decoding.type) != "viterbi":
                units = without_extra_boundaries(units, self.tgt_dict)
            target = utils.strip_pad(sample["target"][batch_id], self.tgt_dict.pad()).tolist()
            self.unit_errors += editdistance.eval(units, target)
            self.unit_total += len(target)
            words = infer.post_process(
                self.tgt_dict.string(hypo["tokens"].int().cpu()), self.cfg.common_eval.post_process
            )
            self.hypotheses[sid] = " ".join(hypo["words"]) if "words" in hypo else words
            return super().process_sentence(sample=sample, hypo=hypo, sid=sid, batch_id=batch_id)

    return Processor


def without_extra_boundaries(units: List[int], labels: Any) -> List[int]:
    """Units of a beam search without the word boundaries `|` that it begins with and repeats
    through silence; no transcript has such."""
    boundary = labels.indices.get("|")
    before = [boundary, *units]
    return [unit for unit, last in zip(units, before) if unit != boundary or last != boundary]


def check_data(cfg: Any, subset: str, state: Dict[str, Any]) -> Manifest:
    """The manifest of a split that was checked, its labels by the checkpoint's dictionary."""
    check_task(cfg)
    files = split_files(cfg, subset)
    labels = state_labels(state)
    if labels is None:
        check_dictionary(files.dictionary)
        labels = Dictionary.load(files.dictionary)
    elif os.path.isfile(files.dictionary):
        there = [line.rstrip().rpartition(" ")[0] for line in read_lines(files.dictionary)]
        if there != labels.symbols[labels.nspecial :]:
            logger.warning(
                "%s is not the dictionary of the training: labels are read by the checkpoint's",
                files.dictionary,
            )
    limit = state["cfg"].model.get("max_unknown_labels", MAX_UNKNOWN)
    return check_split(files, labels, cfg.sample_rate, max_unknown=limit)


def settings(decoding: Any) -> Dict[str, Any]:
    """Settings that the result depends on, beside the model's."""
    if plain(decoding.type) == "viterbi":
        return {}
    values = {key: decoding[key] for key in LM_OPTIONS}
    return {key: str(x) if x in (math.inf, -math.inf) else x for key, x in values.items()}


def plain(choice: Any) -> str:
    """An option that fairseq has as an enumeration, as text."""
    return str(getattr(choice, "value", choice))
