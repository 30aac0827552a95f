"""Criterion `varan_classification`: the variational objective over cross-entropy, and metrics
from one confusion matrix."""

import logging
from dataclasses import dataclass, field
from typing import Any, Dict, List

import torch
from fairseq.criterions import FairseqCriterion, register_criterion

from ..method.classification import layerwise_cross_entropy
from ..scoring.classification import METRICS, confusion_matrix
from .confusion import log_confusion
from .layerwise import (
    LayerObjective,
    ObjectiveConfig,
    check_best_metric,
    log_objective,
    totals,
    unwrapped,
    utterance_loss,
)

logger = logging.getLogger(__name__)


@dataclass
class VaranClassificationCriterionConfig(ObjectiveConfig):
    """Keys of `ObjectiveConfig`, and the keys below."""

    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of the label given to all classes, 0 .. 1"}
    )
    class_weights: str = field(
        default="none",
        metadata={
            "help": "weight of each class in the loss: none, balanced (N / (C n_c) from the "
            "training labels), or C numbers in the dictionary's order, as 1,2,0.5"
        },
    )


@register_criterion("varan_classification", dataclass=VaranClassificationCriterionConfig)
class VaranClassificationCriterion(FairseqCriterion):
    """Loss: sum over utterances of E_q[w CE_l] + beta KL, with w the weight of the
    utterance's class; sample size: utterances.

    Raises ValueError for options out of range, and on the first batch for a model that
    is not read layer by layer.
    """

    def __init__(self, cfg: VaranClassificationCriterionConfig, task: Any):
        super().__init__(task)
        if not 0 <= cfg.label_smoothing < 1:
            raise ValueError(
                f"criterion.label_smoothing={cfg.label_smoothing}: expected 0 or more, below 1"
            )
        check_best_metric(cfg, f"{'|'.join(METRICS)}|recall_.*")
        self.label_smoothing = cfg.label_smoothing
        self.class_weights = class_weights(cfg.class_weights, task)
        self.objective = LayerObjective(cfg)

    def forward(self, model, sample: Dict[str, Any], reduce: bool = True, **unused):
        """Returns (loss, number of utterances, logging output)."""
        net_output = self.objective.run("varan_classification", model, sample)
        log_q, target = net_output["log_q"], sample["target"]
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(log_q.device)
        nll = layerwise_cross_entropy(
            net_output["layer_logits"], target, self.class_weights, self.label_smoothing
        )
        loss, logging_output = utterance_loss(self, nll, log_q, sample, model)
        with torch.no_grad():
            log_probs = unwrapped(model).combined(net_output)
            guess = log_probs.argmax(-1)
            logging_output["_confusion"] = confusion_matrix(
                target, guess, log_probs.shape[-1]
            ).cpu()
        if not model.training:
            labels = self.task.target_dictionary
            names = labels.symbols[labels.nspecial :]
            pairs = zip(target, guess)
            self.objective.show(model, ((names[int(a)], names[int(b)]) for a, b in pairs))
        return loss, len(target), logging_output

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """`log_objective`, and the metrics of `varan_fairseq.metrics` in percent."""
        log_objective(totals(logging_outputs))
        log_confusion(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def class_weights(option: str, task: Any) -> Any:
    """Weights [C] float32 for `criterion.class_weights`, or None. Raises ValueError."""
    symbols = task.target_dictionary.symbols
    if option == "none":
        return None
    if option == "balanced":
        counts = task.train_counts()
        if counts is None:
            logger.warning(
                "criterion.class_weights=balanced: the training labels are not known outside of "
                "training, so losses are not weighted here; metrics never are"
            )
            return None
        present = counts > 0
        weights = torch.zeros(len(counts))
        weights[present] = counts.sum() / (present.sum() * counts[present])
        return weights
    try:
        values = [float(value) for value in option.split(",")]
    except ValueError:
        values = []
    if len(values) != len(symbols) or not all(0 <= value < float("inf") for value in values):
        raise ValueError(
            f"criterion.class_weights={option}: expected none, balanced, or {len(symbols)} numbers, "
            f"for {', '.join(symbols)}"
        )
    return torch.tensor(values)
