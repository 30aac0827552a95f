"""One prediction from the predictions of all layers (method.md, "Prediction")."""

from typing import Sequence

import torch
from torch import Tensor

RULES = ("mixture", "log_linear", "best_layer")
CTC_RULES = (*RULES, "consensus")


def check_rule(rule: str, rules: Sequence[str] = RULES) -> None:
    """Raises ValueError for a rule that is none of `rules`."""
    if rule not in rules:
        raise ValueError(f"unknown combination rule {rule!r}: choose one of {', '.join(rules)}")


def combine(log_probs: Tensor, log_q: Tensor, rule: str) -> Tensor:
    """Combines [L, ..., B, C] log-probabilities of L layers into [..., B, C].

    log_probs: normalised over C; [L, T, B, V] for CTC, [L, B, C] for classification.
    log_q: [B, L]. rule: `mixture` log sum_l q_l p_l; `log_linear` log_softmax(sum_l q_l
    log p_l); `best_layer` log p of the layer with the largest q, per utterance.
    The result is normalised over C.
    """
    check_rule(rule)
    num_layers, batch = log_probs.shape[0], log_probs.shape[-2]
    shape = [num_layers] + [1] * (log_probs.dim() - 3) + [batch, 1]
    log_weight = log_q.t().reshape(shape).to(log_probs)
    if rule == "mixture":
        return torch.logsumexp(log_weight + log_probs, dim=0)
    if rule == "log_linear":
        weighted = log_weight.exp() * log_probs
        # 0 * -inf: a layer of no weight has no say, whatever it forbids
        weighted = weighted.masked_fill(log_weight == float("-inf"), 0)
        return weighted.sum(0).log_softmax(-1)
    return pick_layer(log_probs, log_q.argmax(1))


def pick_layer(values: Sequence[Tensor], layer: Tensor) -> Tensor:
    """Of L tensors [..., B, C], for each utterance the one with its index in `layer` [B]."""
    picked = values[0]
    for index, value in enumerate(values):
        picked = torch.where((layer == index).unsqueeze(-1), value, picked)
    return picked
