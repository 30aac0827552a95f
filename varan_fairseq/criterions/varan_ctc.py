"""Criterion `varan_ctc`: the variational objective over CTC, logged layer by layer."""

import math
from dataclasses import dataclass
from typing import Any, Dict, List

from fairseq.criterions import register_criterion
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.logging import metrics
from fairseq.logging.meters import safe_round

from ..method.ctc import ctc_feasible, layerwise_ctc
from .layerwise import (
    LayerObjective,
    ObjectiveConfig,
    blame_audio,
    log_objective,
    run_model,
    summarise,
    total,
)


@dataclass
class VaranCtcCriterionConfig(ObjectiveConfig, CtcCriterionConfig):
    """fairseq's CTC criterion keys, and those of `ObjectiveConfig`."""


@register_criterion("varan_ctc", dataclass=VaranCtcCriterionConfig)
class VaranCtcCriterion(CtcCriterion):
    """Loss: sum over utterances of E_q[CTC_l / n_b] + beta KL; sample size: utterances.

    Raises ValueError for options out of range, and on the first batch for a model that
    is not read layer by layer.
    """

    def __init__(self, cfg: VaranCtcCriterionConfig, task: Any):
        super().__init__(cfg, task)
        self.objective = LayerObjective(cfg)

    def forward(self, model, sample: Dict[str, Any], reduce: bool = True, **unused):
        """Returns (loss, number of utterances, logging output)."""
        net_output = run_model("varan_ctc", model, sample)
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
        sums = self.objective(model, nll, log_q)
        feasible = ctc_feasible(target, lengths, target_lengths)
        if self.zero_infinity:
            sums = [value.masked_fill(~feasible, 0) for value in sums]
        objective, expected, divergence = (value.sum() for value in sums)

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
        if math.isnan(logging_output["loss"]):
            blame_audio(self.task, sample)
        if not model.training:
            logging_output.update(self._errors(model, net_output, sample))
        return objective, len(target), logging_output

    def _errors(self, model, net_output, sample) -> Dict[str, Any]:
        """Error counts from fairseq's own `ctc` criterion, on the forward pass done."""
        _, _, counts = super().forward(_AlreadyRun(model, net_output), sample)
        keys = ("wv_errors", "w_errors", "w_total", "c_errors", "c_total")
        return {key: counts[key] for key in keys}

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """`log_objective`, and fairseq's error rates."""
        log_objective(logging_outputs)
        metrics.log_scalar_sum("infeasible", total(logging_outputs, "infeasible"), 0)
        metrics.log_scalar("ntokens", total(logging_outputs, "ntokens"))
        for key in ("c_errors", "c_total", "w_errors", "wv_errors", "w_total"):
            metrics.log_scalar("_" + key, total(logging_outputs, key))
        for name, errors, labels in (
            ("uer", "_c_errors", "_c_total"),
            ("wer", "_w_errors", "_w_total"),
            ("raw_wer", "_wv_errors", "_w_total"),
        ):
            if total(logging_outputs, labels[1:]) > 0:
                metrics.log_derived(name, _Rate(errors, labels))


class _Rate:
    """Percentage of one meter's sum in another's."""

    def __init__(self, errors: str, total: str):
        self.errors = errors
        self.total = total

    def __call__(self, meters) -> float:
        count = meters[self.total].sum
        return safe_round(100 * meters[self.errors].sum / count, 3) if count else float("nan")


class _AlreadyRun:
    """A model in evaluation whose output is known: spares a second forward pass."""

    training = False

    def __init__(self, model, net_output):
        self.net_output = net_output
        self.get_normalized_probs = model.get_normalized_probs

    def __call__(self, **net_input):
        return self.net_output
