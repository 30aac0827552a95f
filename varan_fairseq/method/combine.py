"""One prediction from the predictions of all layers (method.md, "Prediction")."""

import torch
from torch import Tensor

RULES = ("mixture", "log_linear", "best_layer")


def check_rule(rule: str) -> None:
    """Raises ValueError for an unknown rule."""
    if rule not in RULES:
        raise ValueError(f"unknown combination rule {rule!r}: choose one of {', '.join(RULES)}")


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
    best = log_weight.argmax(0, keepdim=True).expand(1, *log_probs.shape[1:])
    return log_probs.gather(0, best).squeeze(0)
