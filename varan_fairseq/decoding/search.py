"""fairseq's own decoders over emissions: best path, beam search with a language model."""

import contextlib
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process as fairseq_post_process
from omegaconf import OmegaConf

from ..runtime import fairseq_compat
from .vocabulary import check_language_model, read_lexicon
from .words import check_post_process

# What of decoding.* a language-model decoder depends on.
LM_OPTIONS = (
    *("lmpath", "lexicon", "lmweight", "wordscore", "silweight", "unkweight", "unitlm"),
    *("beam", "beamthreshold", "beamsizetoken"),
)
# The options of them that cost nothing to change, and their names in flashlight.
WEIGHTS = {
    "lmweight": "lm_weight",
    "wordscore": "word_score",
    "silweight": "sil_score",
    "unkweight": "unk_score",
}


@dataclass(frozen=True)
class Hypothesis:
    """units: indices of labels, without blanks. text: of words. score: the decoder's own."""

    units: List[int]
    text: str
    score: float


class Search:
    """A decoder of fairseq.

    decoding: its section of options, see `options`. labels: the model's. post_process: how
    words are made of labels, by fairseq's names. Raises as `check_decoder`, and ValueError
    for a language model or lexicon that does not fit; see `vocabulary`.
    """

    def __init__(self, decoding: Any, labels: Dictionary, post_process: str = "letter"):
        check_post_process(post_process, "post_process")
        check_decoder(decoding)
        self.decoding, self.labels, self.post_process = decoding, labels, post_process
        self.kind = plain(decoding.type)
        # torch's threads, and a GPU, do not survive a fork
        self.in_one_process = self.kind != "kenlm"
        self.words: Optional[List[str]] = None  # of the lexicon
        if self.kind != "viterbi" and decoding.lexicon:
            self.words = read_lexicon(decoding.lexicon, labels, post_process)
        try:
            with self._device():
                self._decoder = fairseq_compat.import_decoder().Decoder(decoding, labels)
        except (RuntimeError, KeyError, AttributeError, AssertionError) as error:
            # as flashlight, KenLM and fairseq say what they cannot read
            if self.kind == "viterbi":
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"decoding.lmpath={decoding.lmpath} lexicon={decoding.lexicon}: {lines[0]}"
            ) from error
        if self.kind != "viterbi":
            check_language_model(decoding, self._decoder, self.words)

    def __call__(self, log_probs: np.ndarray) -> List[Hypothesis]:
        """log_probs: [T, V] float32, of one utterance. The best first; one, unless
        decoding.nbest asks for more."""
        if not len(log_probs):
            return [Hypothesis([], "", 0.0)]
        with self._device():
            (decoded,) = self._decoder.decode(torch.from_numpy(log_probs).unsqueeze(0))
        return [self._hypothesis(candidate) for candidate in decoded] or [
            Hypothesis([], "", -math.inf)
        ]

    def set_weights(self, **weights: float) -> None:
        """Changes options of `WEIGHTS`, without reading the language model again."""
        decoder = self._decoder
        for name, value in weights.items():
            self.decoding[name] = value
            if hasattr(decoder.decoder_opts, WEIGHTS[name]):  # some are of words only
                setattr(decoder.decoder_opts, WEIGHTS[name], value)
        arguments = [decoder.lm, decoder.silence, decoder.blank]
        if self.decoding.lexicon:
            words = [decoder.unk_word, [], decoder.unitlm]
            arguments = [decoder.trie, *arguments, *words]
        else:
            arguments.append([])
        decoder.decoder = type(decoder.decoder)(decoder.decoder_opts, *arguments)

    def _device(self):
        neural = self.kind == "fairseqlm"
        return fairseq_compat.without_cuda() if neural else contextlib.nullcontext()

    def _hypothesis(self, decoded: Dict[str, Any]) -> Hypothesis:
        units = [int(unit) for unit in decoded["tokens"]]
        if self.kind != "viterbi":
            units = without_extra_boundaries(units, self.labels)
        if self.kind != "viterbi" and self.decoding.lexicon:
            text = " ".join(decoded["words"])
        else:
            text = fairseq_post_process(self.labels.string(torch.tensor(units)), self.post_process)
        return Hypothesis(units, text, float(decoded["score"]))


def best_paths(
    log_probs: torch.Tensor,
    lengths: Sequence[int],
    blank: int,
    labels: Dictionary,
    post_process: str,
) -> List[Hypothesis]:
    """What `Search` finds without a language model, of a batch [T, B, V] and without scores."""
    hypotheses = []
    for path, length in zip(log_probs.argmax(-1).t().cpu(), lengths):
        units = path[:length].unique_consecutive()
        units = units[units != blank]
        hypotheses.append(
            Hypothesis(
                units.tolist(), fairseq_post_process(labels.string(units), post_process), 0.0
            )
        )
    return hypotheses


def options(**given: Any) -> Any:
    """fairseq's section `decoding` with its defaults. given: others, by their names."""
    section = OmegaConf.structured(fairseq_compat.import_infer().DecodingConfig)
    return OmegaConf.merge(section, OmegaConf.create(given))


def check_decoder(decoding: Any) -> None:
    """Raises FileNotFoundError, ModuleNotFoundError or ValueError before anything is loaded if a
    language-model decoder lacks something."""
    if plain(decoding.type) == "viterbi":
        return
    try:
        import flashlight.lib.text  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(
            f"decoding.type={plain(decoding.type)} needs flashlight-text: pip install "
            "flashlight-text"
        ) from error
    _check_numbers(decoding)
    if plain(decoding.type) == "kenlm" and decoding.unitlm and decoding.lexicon:
        raise ValueError(
            "decoding.unitlm=true and decoding.lexicon are both set: KenLM would be asked for "
            "labels by the numbers of words. Leave out the lexicon for a language model of labels, or "
            "unitlm for one of words"
        )
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


def _check_numbers(decoding: Any) -> None:
    """Raises ValueError for a beam or a weight that no search can have."""
    if not decoding.beam >= 1:
        raise ValueError(f"decoding.beam={decoding.beam}: expected 1 or more")
    if decoding.beamsizetoken is not None and not decoding.beamsizetoken >= 1:
        raise ValueError(f"decoding.beamsizetoken={decoding.beamsizetoken}: expected 1 or more")
    if not decoding.beamthreshold > 0:
        raise ValueError(f"decoding.beamthreshold={decoding.beamthreshold}: expected more than 0")
    for name in WEIGHTS:
        value = decoding[name]
        if not (math.isfinite(value) or name == "unkweight" and value == -math.inf):
            raise ValueError(f"decoding.{name}={value}: expected a number")


def without_extra_boundaries(units: Sequence[int], labels: Dictionary) -> List[int]:
    """Units of a beam search without the word boundaries `|` that it begins with and repeats
    through silence; no transcript has such."""
    boundary = labels.indices.get("|")
    before = [boundary, *units]
    return [unit for unit, last in zip(units, before) if unit != boundary or last != boundary]


def settings(decoding: Any) -> Dict[str, Any]:
    """Settings that the result depends on, beside the model's."""
    if plain(decoding.type) == "viterbi":
        return {}
    values = {key: decoding[key] for key in LM_OPTIONS}
    return {key: str(x) if x in (math.inf, -math.inf) else x for key, x in values.items()}


def plain(choice: Any) -> str:
    """An option that fairseq has as an enumeration, as text."""
    return str(getattr(choice, "value", choice))
