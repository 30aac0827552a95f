"""One prediction from the predictions of all layers (docs/method.md, "One prediction from L
heads")."""

from typing import Any, Iterable

import torch
from torch import Tensor

from .choices import check_rule


def combine(log_probs: Iterable[Tensor], log_q: Tensor, rule: str) -> Tensor:
    """Combines log-probabilities of L layers into one prediction.

    Args:
        log_probs: L tensors [..., B, C], normalised over C: [T, B, V] for CTC, [B, C] for
            classification. Asked for one by one, so that they need not exist at once.
        log_q: [B, L].
        rule: `mixture` log sum_l q_l p_l; `log_linear` log_softmax(sum_l q_l log p_l);
            `best_layer` log p of the `likeliest_layer`, per utterance.

    Returns:
        The shape of one layer, normalised over C.
    """
    check_rule(rule)
    if rule == "best_layer":
        return pick_layer(log_probs, likeliest_layer(log_q))
    total: Any = None
    for term, log_weight in zip(log_probs, log_q.t().unsqueeze(-1)):
        log_weight = log_weight.to(term)  # [B, 1]
        if rule == "mixture":
            term = log_weight + term
            total = term if total is None else torch.logaddexp(total, term)
        else:
            # 0 * -inf: a layer of no weight has no say, whatever it forbids
            term = (log_weight.exp() * term).masked_fill(log_weight == float("-inf"), 0)
            total = term if total is None else total + term
    return total if rule == "mixture" else total.log_softmax(-1)


def likeliest_layer(log_q: Tensor) -> Tensor:
    """[B] long, 0-based: of log q [B, L] the largest; of equal ones the highest layer, since with a flat
    prior and no posterior all are equal, and low layers read worst."""
    return log_q.shape[1] - 1 - log_q.flip(1).argmax(1)


def pick_layer(values: Iterable[Tensor], layer: Tensor) -> Tensor:
    """Of L tensors [..., B, C], for each utterance the one with its index in `layer` [B]."""
    picked: Any = None
    for index, value in enumerate(values):
        here = (layer == index).unsqueeze(-1)
        picked = value if picked is None else torch.where(here, value, picked)
    return picked
