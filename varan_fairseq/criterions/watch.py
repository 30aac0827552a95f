"""Warnings, at validation, of a posterior that does nothing or runs away (docs/method.md, "What
keeps the posterior from wrecking a run"), and of a prior that expects useful layers where none
are."""

import logging
from typing import Any, Optional, Set

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor

logger = logging.getLogger(__name__)

ENOUGH = 16  # utterances: fewer may agree by chance
TIED, SAME = 1e-3, 1e-4
RUNAWAY, FLOOR = 10.0, 0.1  # times the reference, which is at least so many nats
UNEXPECTED = 0.25  # of an equal share of the prior
BETTER = 0.95  # of the loss that the prior expects


class PosteriorWatch:
    """Looks at q(l|x) of all utterances of a validation, from the first tenth of the training
    on, and warns once of each thing. Of the prior from the middle on: low layers learn first.

    max_update: of the training, 0 for no limit (then from update 1000 and 5000 on).
    """

    def __init__(self, max_update: int):
        self.warm_up = max_update // 10 if max_update > 0 else 1000
        self.middle = max_update // 2 if max_update > 0 else 5000
        self.reference: Optional[float] = None
        self.updates = 0  # before the validation that is running
        self.warned: Set[str] = set()
        self._start_over()

    def _start_over(self) -> None:
        self.utterances, self.divergence = 0, 0.0
        self.nll: Any = 0.0
        self.low: Any = None
        self.high: Any = None
        self.gap: Any = None

    def step(self, model: Any) -> None:
        """Before each batch of a validation."""
        free = model.cfg.posterior == "input"  # the others are as they are by design
        updates = model.w2v_encoder.num_updates
        self.active = free and updates >= self.warm_up
        self.late = updates >= self.middle
        if updates != self.updates and self.utterances:
            if self.reference is None:
                self.reference = max(self.divergence / self.utterances, FLOOR)
            self._start_over()
        self.updates = updates

    @torch.no_grad()
    def see(self, log_q: Tensor, divergence: Tensor, nll: Tensor, prior: Tensor) -> None:
        """log_q, nll: [B, L], divergence: [B], of the batch. prior: [L]."""
        if not self.active or log_q.shape[1] == 1:
            return
        q = log_q.exp()
        log_q = log_q.clamp(min=-1e30)
        low, high = q.min(0).values, q.max(0).values
        gap = (log_q.unsqueeze(2) - log_q.unsqueeze(1)).abs().max(0).values
        if self.utterances:
            low, high = torch.minimum(low, self.low), torch.maximum(high, self.high)
            gap = torch.maximum(gap, self.gap)
        self.low, self.high, self.gap = low, high, gap
        self.utterances += len(q)
        self.divergence += float(divergence.sum())
        self.nll = self.nll + nll.sum(0)
        if self.utterances >= ENOUGH and distributed_utils.get_global_rank() == 0:
            self._judge()
            if self.late:
                self._judge_prior(prior)

    def _judge_prior(self, prior: Tensor) -> None:
        nll = self.nll / self.utterances
        best = int(nll.argmin())
        share, equal = float(prior[best]), 1 / len(prior)
        if share < UNEXPECTED * equal and nll[best] < BETTER * (prior * nll).sum():
            self._warn(
                "prior",
                f"layer {best + 1} reads best, but the prior gives it {share:.1%}, where layers alike "
                f"would have {equal:.1%}: try criterion.prior=uniform",
            )

    def _judge(self) -> None:
        # layers that hardly count may well agree on it
        tied = (self.gap < TIED).sum(1).gt(1) & (self.high > SAME)
        if tied.sum() > 1:
            layers = ", ".join(str(layer + 1) for layer in tied.nonzero().squeeze(1).tolist())
            self._warn(
                "flat",
                f"layers {layers} weigh the same in every utterance (to {TIED:g} of their weight), "
                "so which of them is read is chance: lower optimization.lr or "
                "model.posterior_lr_multiplier, or set model.layer_embedding=true",
            )
        if (self.high - self.low).max() < SAME:
            self._warn(
                "same",
                f"q(l|x) is the same for all utterances (to {SAME:g}): the posterior is a fixed "
                "weighting. Lower criterion.beta, or raise model.posterior_lr_multiplier",
            )
        mean = self.divergence / self.utterances
        if self.reference is not None and mean > RUNAWAY * self.reference:
            self._warn(
                "runaway",
                f"the divergence is {mean:.2f} nats, after warm-up it was at most "
                f"{self.reference:.2f}: the posterior runs away from the prior. Lower "
                "optimization.lr or model.posterior_lr_multiplier, or raise criterion.beta",
            )

    def _warn(self, what: str, message: str) -> None:
        if what not in self.warned:
            self.warned.add(what)
            logger.warning("posterior, %d utterances validated: %s", self.utterances, message)
