"""What our criterions share: the variational objective's options, prior and log."""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor, nn

from ..method.objective import DIRECTIONS, check_objective, variational_objective
from ..method.prior import PRIORS, layer_prior
from .watch import PosteriorWatch


@dataclass
class ObjectiveConfig(FairseqDataclass):
    """Keys of the prior and of the divergence."""

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
    max_update: int = II("optimization.max_update")


class LayerObjective:
    """J of a model that is read layer by layer. cfg: extends `ObjectiveConfig`. Raises
    ValueError for options out of range."""

    def __init__(self, cfg: Any):
        self.beta = cfg.beta
        self.direction = cfg.divergence
        self.prior_options = dict(df=cfg.prior_df, nc=cfg.prior_nc, p=cfg.prior_p)
        self.prior_kind = cfg.prior
        self.kept = None  # where the model keeps the prior
        self.watch = PosteriorWatch(cfg.max_update)
        check_objective(cfg.beta, cfg.divergence)
        layer_prior(cfg.prior, 1, **self.prior_options)

    def run(self, name: str, model: nn.Module, sample: Dict[str, Any]) -> Dict[str, Any]:
        """The forward pass of a model that is read layer by layer, which has the prior then;
        ValueError for another model. name: the criterion's and its model's."""
        inner = unwrapped(model)
        if not hasattr(inner, "num_predictions"):
            raise ValueError(
                f"criterion {name} needs a model with a posterior over layers (model._name={name})"
                f", got {type(inner).__name__}: use a criterion of fairseq's"
            )
        if inner.prior is not self.kept:
            self.kept = inner.prior
            self.kept.set(
                layer_prior(self.prior_kind, inner.num_predictions, **self.prior_options)
            )
        self.watch.step(inner)
        return model(**sample["net_input"])

    def __call__(self, nll: Tensor, log_q: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """nll, log_q: [B, K] of the last `run` -> (total, expected_nll, divergence), each [B]."""
        terms = variational_objective(nll, log_q, self.kept.probs, self.beta, self.direction)
        self.watch.see(log_q, terms[2])
        return terms


@torch.no_grad()
def summarise(sums: Dict[str, Tensor], nll: Tensor, log_q: Tensor) -> Dict[str, Any]:
    """A logging output: `sums` (scalars, of which `loss` is one), the entropy of the
    posterior, and for K > 1 the weight and the loss of each layer; sums over utterances,
    moved to the host in one copy."""
    utterances, layers = nll.shape
    q = log_q.exp()
    sums = {**sums, "posterior_entropy": -(q * log_q.clamp(min=-1e30)).sum()}
    scalars = torch.stack([value.to(q).reshape(()) for value in sums.values()])
    columns = torch.cat([scalars, q.sum(0), nll.to(q).sum(0)]).tolist()
    result = dict(zip(sums, columns))
    result.update(nsentences=utterances, sample_size=utterances)
    if layers > 1:
        for layer in range(layers):
            result[f"posterior_{layer + 1:02d}"] = columns[len(sums) + layer]
            result[f"nll_{layer + 1:02d}"] = columns[len(sums) + layers + layer]
    return result


def total(logging_outputs: List[Dict[str, Any]], key: str) -> Any:
    """Sum over batches and workers."""
    return utils.item(sum(log.get(key, 0) for log in logging_outputs))


def log_objective(logging_outputs: List[Dict[str, Any]]) -> None:
    """What `summarise` made, as means over utterances; losses in bits, as fairseq logs every
    loss in base 2."""
    utterances = total(logging_outputs, "nsentences")
    first = logging_outputs[0]
    bits = ["loss", "expected_nll", "divergence", "posterior_entropy"]
    bits += sorted(key for key in first if key.startswith("nll_"))
    for key in bits:
        mean = total(logging_outputs, key) / utterances
        metrics.log_scalar(key, mean / math.log(2), utterances, round=4)
    for key in sorted(key for key in first if key.startswith("posterior_") and key[-1].isdigit()):
        metrics.log_scalar(key, total(logging_outputs, key) / utterances, utterances, round=4)
    metrics.log_scalar("nsentences", utterances)


def blame_audio(task: Any, sample: Dict[str, Any]) -> None:
    """A loss that is no number is often bad audio: then raises ValueError with the file."""
    for row, waveform in zip(sample["id"].tolist(), sample["net_input"]["source"]):
        if not torch.isfinite(waveform).all():
            raise ValueError(f"NaN or infinite samples in audio: {_name_utterance(task, row)}")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside data-parallel wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _name_utterance(task, row: int) -> str:
    """The audio file(s) that may be utterance `row` of the batch's split."""
    names = []
    for split, dataset in task.datasets.items():
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        if hasattr(dataset, "fnames") and row < len(dataset.fnames):
            name = dataset.fnames[row]
            name = name.as_py() if hasattr(name, "as_py") else name  # a pyarrow string
            name = dataset.text_compressor.decompress(name)
            names.append(f"{dataset.root_dir}/{name} ({split})")
    return " or ".join(names) or f"utterance {row}"
