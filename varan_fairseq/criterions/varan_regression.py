"""Criterion `varan_regression`: the variational objective over squared errors or concordance."""

from dataclasses import dataclass, field
from typing import Any, Dict, List

import torch
from fairseq.criterions import FairseqCriterion, register_criterion

from ..method.choices import check_choice
from ..method.regression import layerwise_concordance, layerwise_squared_error
from ..scoring.regression import METRICS, moments
from .layerwise import (
    LayerObjective,
    ObjectiveConfig,
    check_best_metric,
    log_objective,
    totals,
    unwrapped,
    utterance_loss,
)
from .moments import log_moments

LOSSES = {"mse": layerwise_squared_error, "ccc": layerwise_concordance}


@dataclass
class VaranRegressionCriterionConfig(ObjectiveConfig):
    """Keys of `ObjectiveConfig`, and the key below."""

    regression_loss: str = field(
        default="mse",
        metadata={
            "help": "of each layer: mse, half the squared error, or ccc, 1 - the concordance of the "
            "batch, which wants batches of 16 utterances or more"
        },
    )


@register_criterion("varan_regression", dataclass=VaranRegressionCriterionConfig)
class VaranRegressionCriterion(FairseqCriterion):
    """Loss: sum over utterances of E_q[loss_l] + beta KL, of targets with mean 0 and variance 1;
    sample size: utterances.

    Raises ValueError for options out of range, and on the first batch for a model that
    is not read layer by layer.
    """

    def __init__(self, cfg: VaranRegressionCriterionConfig, task: Any):
        super().__init__(task)
        check_choice("criterion.regression_loss", cfg.regression_loss, tuple(LOSSES))
        check_best_metric(cfg, f"{'|'.join(METRICS)}|ccc_.*")
        self.loss_of_layers = LOSSES[cfg.regression_loss]
        self.objective = LayerObjective(cfg)

    def forward(self, model, sample: Dict[str, Any], reduce: bool = True, **unused):
        """Returns (loss, number of utterances, logging output)."""
        net_output = self.objective.run("varan_regression", model, sample)
        log_q, target, inner = net_output["log_q"], sample["target"], unwrapped(model)
        nll = self.loss_of_layers(net_output["layer_logits"], inner.scale.standard(target))
        loss, logging_output = utterance_loss(self, nll, log_q, sample, model)
        with torch.no_grad():
            values = inner.combined(net_output)
            logging_output["_moments"] = moments(target, values).cpu()
        if not model.training:
            self.objective.show(model, ((_shown(a), _shown(b)) for a, b in zip(target, values)))
        return loss, len(target), logging_output

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """`log_objective`, and the metrics of `scoring.regression`."""
        log_objective(totals(logging_outputs))
        log_moments(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _shown(values: torch.Tensor) -> str:
    return " ".join(f"{value:.3g}" for value in values.tolist())
