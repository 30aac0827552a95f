"""What our criterions share: the variational objective's options, prior and log."""

import logging
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor, nn

from ..method.choices import DIRECTIONS, PRIORS
from ..method.objective import check_objective, variational_objective
from ..method.prior import layer_prior
from ..runtime.fairseq_compat import whole_config
from .board import Board
from .watch import PosteriorWatch

logger = logging.getLogger(__name__)


PRIOR_HELP = {"help": f"prior over layers: {', '.join(PRIORS)}"}


@dataclass
class ObjectiveConfig(FairseqDataclass):
    """Keys of the prior and of the divergence."""

    prior: str = field(default="chi2_reversed", metadata=PRIOR_HELP)
    prior_df: str = field(
        default="auto",
        metadata={
            "help": "degrees of freedom of the chi2 priors, > 0; auto: 35 if the encoder trains "
            "whole, 6 with LoRA or a frozen one"
        },
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


# Those of the method's published recipes.
AUTO_DF = {"full": 35.0, "lora": 6.0, "probe": 6.0}


def degrees_of_freedom(option: str) -> Optional[float]:
    """`criterion.prior_df` as a number, None for auto. Raises ValueError."""
    if str(option) == "auto":
        return None
    try:
        return float(option)
    except ValueError:
        raise ValueError(f"criterion.prior_df={option}: expected a number > 0, or auto") from None


def check_best_metric(cfg: Any, pattern: str) -> None:
    """Raises ValueError if a run wants its best checkpoint by a metric that this criterion does
    not log, which fairseq would find out after the first validation. cfg: of the criterion.
    pattern: a regular expression of the names of metrics beside those of `log_objective`."""
    whole = whole_config(cfg)
    if whole is None or whole.dataset.disable_validation:
        return
    name = whole.checkpoint.best_checkpoint_metric
    shared = r"loss|expected_nll|divergence|posterior_entropy|(nll|posterior)_\d+|num_updates"
    if not re.fullmatch(f"{shared}|{pattern}", name):
        raise ValueError(
            f"checkpoint.best_checkpoint_metric={name} is nothing that criterion {cfg._name} logs: "
            f"choose one that matches {shared}|{pattern}"
        )


class LayerObjective:
    """J of a model that is read layer by layer. cfg: extends `ObjectiveConfig`. Raises
    ValueError for options out of range."""

    def __init__(self, cfg: Any):
        self.beta = cfg.beta
        self.direction = cfg.divergence
        self.prior_options = dict(nc=cfg.prior_nc, p=cfg.prior_p)
        self.prior_df = degrees_of_freedom(cfg.prior_df)
        self.prior_kind = cfg.prior
        self.prior: Any = None  # the model's
        self.watch, self.watched = PosteriorWatch(cfg.max_update), False
        self.board = Board(cfg)
        check_objective(cfg.beta, cfg.divergence)
        layer_prior(cfg.prior, 1, df=self._df("full"), **self.prior_options)

    def run(self, name: str, model: nn.Module, sample: Dict[str, Any]) -> Dict[str, Any]:
        """The forward pass of a model that is read layer by layer, which has the prior then;
        ValueError for another model. name: the criterion's and its model's."""
        inner = unwrapped(model)
        if not hasattr(inner, "num_predictions"):
            raise ValueError(
                f"criterion {name} needs a model with a posterior over layers (model._name={name})"
                f", got {type(inner).__name__}: use a criterion of fairseq's"
            )
        if inner.prior is not self.prior:
            self.prior = inner.prior
            self._set_prior(inner)
        self.watched = not inner.training
        if self.watched:
            self.watch.step(inner)
        return model(**sample["net_input"])

    def show(self, model: nn.Module, pairs: Iterable[Tuple[str, str]]) -> None:
        """Some (reference, hypothesis) of a validation, for TensorBoard."""
        updates = (
            unwrapped(model).w2v_encoder.num_updates + 1
        )  # fairseq told it before the last one
        if self.board.wants(updates):
            self.board.show(updates, pairs)

    def _df(self, finetune: str) -> float:
        return AUTO_DF[finetune] if self.prior_df is None else self.prior_df

    def _set_prior(self, model: Any) -> None:
        df = self._df(model.finetune)
        probs = layer_prior(self.prior_kind, model.num_predictions, df=df, **self.prior_options)
        before = self.prior.probs.cpu()
        if model.w2v_encoder.num_updates > 0 and not torch.allclose(before, probs, atol=1e-6):
            logger.warning(
                "the checkpoint was trained with another prior over layers (%s) than that of "
                "criterion.prior=%s prior_df=%g prior_nc=%g prior_p=%g. The new prior is used. Restore the "
                "old options to keep the old one",
                " ".join(f"{value:.3f}" for value in before.tolist()),
                self.prior_kind,
                df,
                self.prior_options["nc"],
                self.prior_options["p"],
            )
        self.prior.set(probs)

    def __call__(self, nll: Tensor, log_q: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """nll, log_q: [B, K] of the last `run` -> (total, expected_nll, divergence), each [B]."""
        terms = variational_objective(nll, log_q, self.prior.probs, self.beta, self.direction)
        if self.watched:
            self.watch.see(log_q, terms[2], nll, self.prior.probs)
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


def utterance_loss(
    criterion: Any, nll: Tensor, log_q: Tensor, sample: Dict[str, Any], model: nn.Module
) -> Tuple[Tensor, Dict[str, Any]]:
    """(J summed over a batch, its logging output) of a criterion whose utterances have one target each.
    nll, log_q: [B, K]. Raises ValueError as `refuse_no_number`."""
    loss, expected, divergence = (value.sum() for value in criterion.objective(nll, log_q))
    sums = {"loss": loss, "expected_nll": expected, "divergence": divergence}
    logging_output = summarise(sums, nll, log_q)
    refuse_no_number(logging_output["loss"], criterion.task, sample, model)
    logging_output["ntokens"] = len(nll)  # fairseq's speed, wps, counts utterances
    return loss, logging_output


def totals(logging_outputs: List[Dict[str, Any]]) -> Dict[str, float]:
    """Sums of all numbers over batches and workers, where they are 0 if they are not there; moved
    to the host in one copy."""
    sums: Dict[str, Any] = Counter()
    for log in logging_outputs:
        for key, value in log.items():
            if not isinstance(value, Tensor) or value.numel() == 1:
                sums[key] = sums[key] + value
    tensors = {key: value for key, value in sums.items() if isinstance(value, Tensor)}
    if tensors:
        stacked = torch.stack([value.double().reshape(()) for value in tensors.values()])
        sums = Counter({**sums, **dict(zip(tensors, stacked.tolist()))})
    return sums


def log_objective(sums: Dict[str, float]) -> None:
    """What `summarise` made and `totals` added up, as means over utterances; losses in bits, as
    fairseq logs every loss in base 2."""
    utterances = sums["nsentences"]
    bits = ["loss", "expected_nll", "divergence", "posterior_entropy"]
    bits += sorted(key for key in sums if key.startswith("nll_"))
    for key in bits:
        mean = sums[key] / utterances
        metrics.log_scalar(key, mean / math.log(2), utterances, round=4)
    for key in sorted(key for key in sums if key.startswith("posterior_") and key[-1].isdigit()):
        metrics.log_scalar(key, sums[key] / utterances, utterances, round=4)
    metrics.log_scalar("nsentences", utterances)


def refuse_no_number(loss: float, task: Any, sample: Dict[str, Any], model: nn.Module) -> None:
    """Raises ValueError, naming the batch's utterances, for a loss that is NaN, or infinite in
    training. In half precision fairseq lowers the loss scale and continues: then it is said once."""
    if math.isfinite(loss) or (math.isinf(loss) and not model.training):
        return
    rows = sample["id"].tolist()
    source, padding = sample["net_input"]["source"], sample["net_input"].get("padding_mask")
    lengths = [source.shape[1]] * len(rows) if padding is None else (~padding).sum(1).tolist()
    for row, length, waveform in zip(rows, lengths, source):
        if not torch.isfinite(waveform).all():
            name = _name_utterance(task, row, length)
            raise ValueError(f"NaN or infinite samples in audio: {name}")
    names = ", ".join(
        _name_utterance(task, *utterance) for utterance in list(zip(rows, lengths))[:4]
    )
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    text = f"the loss of a batch is {loss}: {names}{more}"
    if next(model.parameters()).dtype != torch.float16 and not torch.is_autocast_enabled():
        raise ValueError(
            f"{text}. The audio is finite: lower optimization.lr, look at these labels, or, where "
            "there are more labels than frames, set criterion.zero_infinity=true"
        )
    if not _SAID:
        _SAID.add(text)
        logger.warning("%s (half precision: said once)", text)


_SAID: Set[str] = set()


def unwrapped(model: Any) -> Any:
    """The model inside data-parallel wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _name_utterance(task: Any, row: int, length: int) -> str:
    """The audio file(s) that may be utterance `row`, of so many samples, of the batch's split."""
    names: Dict[bool, List[str]] = {True: [], False: []}
    for split, dataset in task.datasets.items():
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        if hasattr(dataset, "fnames") and row < len(dataset.fnames):
            name = dataset.fnames[row]
            name = name.as_py() if hasattr(name, "as_py") else name  # a pyarrow string
            name = dataset.text_compressor.decompress(name)
            alike = bool(dataset.sizes[row] == length)
            names[alike].append(f"{dataset.root_dir}/{name} ({split})")
    return " or ".join(names[True] or names[False]) or f"utterance {row}"
