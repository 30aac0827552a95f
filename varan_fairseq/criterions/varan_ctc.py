"""Criterion `varan_ctc`: the variational objective over CTC, logged layer by layer."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import editdistance
import torch
from fairseq.criterions import register_criterion
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data.data_utils import post_process
from fairseq.logging import metrics
from fairseq.logging.meters import safe_round
from torch import Tensor

from ..method.ctc import ctc_feasible, layerwise_ctc
from .layerwise import (
    PRIOR_HELP,
    LayerObjective,
    ObjectiveConfig,
    check_best_metric,
    log_objective,
    refuse_no_number,
    summarise,
    totals,
)


@dataclass
class VaranCtcCriterionConfig(ObjectiveConfig, CtcCriterionConfig):
    """fairseq's CTC criterion keys, and those of `ObjectiveConfig`. Every layer's transcript counts
    in the vote, so every head gets the same share of the loss (docs/results.md, "A flat prior")."""

    prior: str = field(default="uniform", metadata=PRIOR_HELP)


@register_criterion("varan_ctc", dataclass=VaranCtcCriterionConfig)
class VaranCtcCriterion(CtcCriterion):
    """Loss: sum over utterances of E_q[CTC_l / n_b] + beta KL; sample size: utterances, or
    labels without `sentence_avg`, as in fairseq's `ctc`.

    Raises ValueError for options out of range, and on the first batch for a model that
    is not read layer by layer.
    """

    def __init__(self, cfg: VaranCtcCriterionConfig, task: Any):
        try:
            super().__init__(cfg, task)
        except Exception as error:
            if cfg.wer_args is None and cfg.wer_kenlm_model in (None, ""):
                raise
            raise ValueError(
                "criterion.wer_args and wer_kenlm_model need fairseq's examples/speech_recognition "
                f"and its old bindings of flashlight, which pip does not install ({error}): leave "
                "them out, and decode with varan-infer decoding.type=kenlm"
            ) from None
        check_best_metric(cfg, "uer|wer|raw_wer|infeasible")
        self.objective = LayerObjective(cfg)

    def forward(self, model, sample: Dict[str, Any], reduce: bool = True, **unused):
        """Returns (loss, sample size, logging output)."""
        net_output = self.objective.run("varan_ctc", model, sample)
        log_q, lengths = net_output["log_q"], net_output["lengths"]
        target = sample["target"]
        labels = (target != self.pad_idx) & (target != self.eos_idx)
        target_lengths = labels.sum(1)

        nll = layerwise_ctc(
            net_output["layer_logits"],
            target,
            lengths,
            target_lengths,
            self.blank_idx,
            self.zero_infinity,
        ) / lengths.unsqueeze(1)
        terms = list(self.objective(nll, log_q))
        feasible = ctc_feasible(target, lengths, target_lengths)
        if self.zero_infinity:
            terms = [value.masked_fill(~feasible, 0) for value in terms]
        objective, expected, divergence = (value.sum() for value in terms)

        logging_output = summarise(
            {
                "loss": objective,
                "expected_nll": expected,
                "divergence": divergence,
                "infeasible": (~feasible).sum(),
            },
            nll.masked_fill(~feasible.unsqueeze(1), 0),
            log_q,
        )
        logging_output["ntokens"] = sample["ntokens"]
        refuse_no_number(logging_output["loss"], self.task, sample, model)
        if not model.training:
            logging_output.update(self._errors(model, net_output, sample))
        # as fairseq's: what gradients are divided by
        size = len(target) if self.sentence_avg else sample["ntokens"]
        logging_output["sample_size"] = size
        return objective, size, logging_output

    @torch.no_grad()
    def _errors(self, model, net_output, sample) -> Dict[str, int]:
        """Errors and totals of labels (c) and words (w), under the names and by the rules of
        fairseq's `ctc` criterion. wv: without the language model that `wer_args` may name."""
        log_probs = model.get_normalized_probs(net_output, log_probs=True)
        log_probs = log_probs.float().transpose(0, 1).cpu()
        lengths = net_output["lengths"].tolist()
        targets = sample["target_label"] if "target_label" in sample else sample["target"]
        labels = self.task.target_dictionary
        counts: Dict[str, int] = Counter()
        pairs = []
        for emission, frames, target in zip(log_probs, lengths, targets.cpu()):
            emission = emission[:frames]
            spoken = target[(target != self.pad_idx) & (target != self.eos_idx)]
            best = emission.argmax(-1).unique_consecutive()
            best = best[best != self.blank_idx]
            words, read = (
                post_process(labels.string(sequence), self.post_process).split()
                for sequence in (spoken, best)
            )
            plain = editdistance.eval(read, words)
            by_model = self._words_by_language_model(emission)
            counts["wv_errors"] += plain
            counts["w_errors"] += plain if by_model is None else editdistance.eval(by_model, words)
            counts["w_total"] += len(words)
            counts["c_errors"] += editdistance.eval(best.tolist(), spoken.tolist())
            counts["c_total"] += len(spoken)
            pairs.append((words, read))
        self.objective.show(model, ((" ".join(a), " ".join(b)) for a, b in pairs))
        return dict(counts)

    def _words_by_language_model(self, emission: Tensor) -> Optional[List[str]]:
        """[T, V] -> words, if `wer_args` names a language model and it finds some."""
        if self.w2l_decoder is None:
            return None
        decoded = self.w2l_decoder.decode(emission.unsqueeze(0))
        return decoded[0][0].get("words") if decoded and decoded[0] else None

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """`log_objective`, and fairseq's error rates."""
        sums = totals(logging_outputs)
        log_objective(sums)
        metrics.log_scalar_sum("infeasible", sums["infeasible"], 0)
        metrics.log_scalar("ntokens", sums["ntokens"])
        for key in ("c_errors", "c_total", "w_errors", "wv_errors", "w_total"):
            metrics.log_scalar("_" + key, sums[key])
        for name, errors, labels in (
            ("uer", "_c_errors", "_c_total"),
            ("wer", "_w_errors", "_w_total"),
            ("raw_wer", "_wv_errors", "_w_total"),
        ):
            if labels[1:] in sums:
                metrics.log_derived(name, _Rate(errors, labels))


class _Rate:
    """Percentage of one meter's sum in another's."""

    def __init__(self, errors: str, total: str):
        self.errors = errors
        self.total = total

    def __call__(self, meters) -> float:
        count = meters[self.total].sum
        return safe_round(100 * meters[self.errors].sum / count, 3) if count else float("nan")
