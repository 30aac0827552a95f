"""What training minimises: J = E_q[NLL] + beta KL, as pure functions on tensors."""

from typing import Tuple

import torch
from torch import Tensor

from .choices import DIRECTIONS
from .ctc import layerwise_ctc  # noqa: F401  (the NLL of speech recognition)


def check_objective(beta: float, direction: str) -> None:
    """Raises ValueError for a beta that is negative or no number, or an unknown direction."""
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta must be a finite number >= 0, got {beta}")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"unknown divergence direction {direction!r}: choose one of {', '.join(DIRECTIONS)}"
        )


def layer_divergence(log_q: Tensor, prior: Tensor, direction: str) -> Tensor:
    """KL between the prior and the posterior (docs/method.md, "What training minimises"). A layer
    of zero probability on the left of the divergence contributes 0; a zero on its right is clamped to
    the smallest positive number, so the value is large but never NaN.

    Args:
        log_q: [B, L].
        prior: [L].
        direction: `prior_posterior` for KL(p || q), `posterior_prior` for KL(q || p).

    Returns:
        [B].
    """
    check_objective(0.0, direction)
    prior = prior.to(log_q)
    tiny = torch.finfo(log_q.dtype).tiny
    log_prior = prior.clamp(min=tiny).log()
    if direction == "prior_posterior":
        return (prior * (log_prior - _floored(log_q))).sum(-1)
    return (log_q.exp() * (_floored(log_q) - log_prior)).sum(-1)


def _floored(log_q: Tensor) -> Tensor:
    return log_q.clamp(min=-1e30)  # 0 * -inf is NaN, 0 * -1e30 is 0


def variational_objective(
    nll: Tensor, log_q: Tensor, prior: Tensor, beta: float, direction: str
) -> Tuple[Tensor, Tensor, Tensor]:
    """J of every utterance (docs/method.md, "What training minimises"). Gradients flow through nll
    and log_q.

    Args:
        nll: [B, L], the negative log-likelihood of each layer's head.
        log_q: [B, L].
        prior: [L].
        beta: weight of the divergence.
        direction: see `layer_divergence`.

    Returns:
        (total, expected_nll, divergence), each [B]; total = expected_nll + beta * divergence.
    """
    check_objective(beta, direction)
    expected = (log_q.exp() * nll).sum(-1)
    divergence = layer_divergence(log_q, prior, direction)
    return expected + beta * divergence, expected, divergence
