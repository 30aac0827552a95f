"""Criterion `varan_ctc`: the variational objective over CTC, logged layer by layer."""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.logging import metrics
from fairseq.logging.meters import safe_round
from torch import Tensor

from ..method.ctc import ctc_feasible, layerwise_ctc
from ..method.objective import DIRECTIONS, check_objective, variational_objective
from ..method.prior import PRIORS, layer_prior


@dataclass
class VaranCtcCriterionConfig(CtcCriterionConfig):
    """fairseq's CTC criterion keys, and the keys below."""

    prior: str = field(
        default="chi2_reversed", metadata={"help": f"prior over layers: {', '.join(PRIORS)}"}
    )
    prior_df: float = field(
        default=2.0, metadata={"help": "degrees of freedom of the chi2 priors, > 0"}
    )
    prior_nc: float = field(default=10.0, metadata={"help": "non-centrality of the chi2 priors"})
    prior_p: float = field(
        default=0.45, metadata={"help": "success probability of the geometric priors"}
    )
    beta: float = field(default=0.05, metadata={"help": "weight of the divergence, >= 0"})
    divergence: str = field(
        default="prior_posterior",
        metadata={"help": f"direction of the divergence: {', '.join(DIRECTIONS)}"},
    )


@register_criterion("varan_ctc", dataclass=VaranCtcCriterionConfig)
class VaranCtcCriterion(CtcCriterion):
    """Loss: sum over utterances of E_q[CTC_l / n_b] + beta KL; sample size: utterances.

    Raises ValueError for options out of range, and on the first batch for a model that
    is not read layer by layer.
    """

    def __init__(self, cfg: VaranCtcCriterionConfig, task: Any):
        super().__init__(cfg, task)
        self.beta = cfg.beta
        self.divergence = cfg.divergence
        self.prior_options = dict(df=cfg.prior_df, nc=cfg.prior_nc, p=cfg.prior_p)
        self.prior_kind = cfg.prior
        self.prior = None
        check_objective(cfg.beta, cfg.divergence)
        layer_prior(cfg.prior, 1, **self.prior_options)

    def forward(self, model, sample: Dict[str, Any], reduce: bool = True, **unused):
        """Returns (loss, number of utterances, logging output)."""
        net_output = self._run(model, sample)
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
        total, expected, divergence = variational_objective(
            nll, log_q, self._prior(model, log_q), self.beta, self.divergence
        )
        feasible = ctc_feasible(target, lengths, target_lengths)
        if self.zero_infinity:
            total, expected, divergence = (
                value.masked_fill(~feasible, 0) for value in (total, expected, divergence)
            )
        loss = total.sum()

        logging_output = self._summary(loss, expected, divergence, nll, log_q, feasible)
        logging_output["ntokens"] = sample["ntokens"]
        if math.isnan(logging_output["loss"]):
            self._blame_audio(sample)
        if not model.training:
            logging_output.update(self._errors(model, net_output, sample))
        return loss, len(target), logging_output

    def _run(self, model, sample) -> Dict[str, Any]:
        inner = _unwrapped(model)
        if not hasattr(inner, "num_predictions"):
            raise ValueError(
                f"criterion varan_ctc needs a model with a posterior over layers "
                f"(model._name=varan_ctc), got {type(inner).__name__}: use criterion._name=ctc"
            )
        return model(**sample["net_input"])

    def _prior(self, model, log_q: Tensor) -> Tensor:
        if self.prior is None:
            kept = _unwrapped(model).prior
            kept.set(layer_prior(self.prior_kind, log_q.shape[1], **self.prior_options))
            self.prior = kept.probs
        return self.prior

    def _blame_audio(self, sample: Dict[str, Any]) -> None:
        """A loss that is no number is often bad audio: then names the file."""
        for row, waveform in zip(sample["id"].tolist(), sample["net_input"]["source"]):
            if not torch.isfinite(waveform).all():
                raise ValueError(
                    f"NaN or infinite samples in audio: {_name_utterance(self.task, row)}"
                )

    @torch.no_grad()
    def _summary(self, loss, expected, divergence, nll, log_q, feasible) -> Dict[str, Any]:
        """Sums over utterances. Moved to the host in one copy."""
        q = log_q.exp()
        entropy = -(q * log_q.clamp(min=-1e30)).sum(1)
        shown = nll.masked_fill(~feasible.unsqueeze(1), 0)
        sums = [loss, expected.sum(), divergence.sum(), entropy.sum(), (~feasible).sum().float()]
        columns = torch.cat([torch.stack(sums), q.sum(0), shown.sum(0)]).tolist()
        loss, expected, divergence, entropy, infeasible = columns[:5]
        utterances, layers = nll.shape
        result = {
            "loss": loss,
            "expected_nll": expected,
            "divergence": divergence,
            "posterior_entropy": entropy,
            "infeasible": infeasible,
            "nsentences": utterances,
            "sample_size": utterances,
        }
        if layers > 1:
            for layer in range(layers):
                result[f"posterior_{layer + 1:02d}"] = columns[5 + layer]
                result[f"nll_{layer + 1:02d}"] = columns[5 + layers + layer]
        return result

    def _errors(self, model, net_output, sample) -> Dict[str, Any]:
        """Error counts from fairseq's own `ctc` criterion, on the forward pass done."""
        _, _, counts = super().forward(_AlreadyRun(model, net_output), sample)
        keys = ("wv_errors", "w_errors", "w_total", "c_errors", "c_total")
        return {key: counts[key] for key in keys}

    @staticmethod
    def reduce_metrics(logging_outputs: List[Dict[str, Any]]) -> None:
        """Losses in bits an utterance and frame, as fairseq logs every loss in base 2."""

        def total(key):
            return utils.item(sum(log.get(key, 0) for log in logging_outputs))

        utterances = total("nsentences")
        first = logging_outputs[0]
        bits = ["loss", "expected_nll", "divergence", "posterior_entropy"]
        bits += sorted(key for key in first if key.startswith("nll_"))
        for key in bits:
            metrics.log_scalar(key, total(key) / utterances / math.log(2), utterances, round=4)
        for key in sorted(
            key for key in first if key.startswith("posterior_") and key[-1].isdigit()
        ):
            metrics.log_scalar(key, total(key) / utterances, utterances, round=4)
        metrics.log_scalar_sum("infeasible", total("infeasible"), 0)
        metrics.log_scalar("ntokens", total("ntokens"))
        metrics.log_scalar("nsentences", utterances)

        for key in ("c_errors", "c_total", "w_errors", "wv_errors", "w_total"):
            metrics.log_scalar("_" + key, total(key))
        for name, errors, labels in (
            ("uer", "_c_errors", "_c_total"),
            ("wer", "_w_errors", "_w_total"),
            ("raw_wer", "_wv_errors", "_w_total"),
        ):
            if total(labels[1:]) > 0:
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


def _unwrapped(model):
    """The model inside data-parallel wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _name_utterance(task, row: int) -> str:
    """The audio file(s) that may be utterance `row` of the batch's split."""
    names = []
    for split, dataset in task.datasets.items():
        dataset = getattr(dataset, "dataset", dataset)
        if hasattr(dataset, "fnames") and row < len(dataset.fnames):
            name = dataset.fnames[row]
            name = name.as_py() if hasattr(name, "as_py") else name  # a pyarrow string
            name = dataset.text_compressor.decompress(name)
            names.append(f"{dataset.root_dir}/{name} ({split})")
    return " or ".join(names) or f"utterance {row}"
