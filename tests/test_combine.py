"""Combination rules against float64 arithmetic on probabilities."""

import pytest
import torch

from varan_fairseq.method.choices import RULES
from varan_fairseq.method.combine import combine


def by_hand(rule, probs, q):
    """probs [L, C] and q [L] of one frame -> [C] probabilities."""
    if rule == "mixture":
        return (q.unsqueeze(1) * probs).sum(0)
    if rule == "best_layer":
        return probs[q.argmax()]
    product = (probs ** q.unsqueeze(1)).prod(0)
    return product / product.sum()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("frames", [None, 5])
def test_rules(rule, frames):
    torch.manual_seed(0)
    shape = (4, 3, 6) if frames is None else (4, frames, 3, 6)
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    found = combine(logits.log_softmax(-1), scores.log_softmax(-1), rule)
    assert torch.allclose(found.exp().sum(-1), torch.ones(shape[1:-1], dtype=torch.float64))

    probs, q = logits.softmax(-1), scores.softmax(-1)
    expected = torch.stack(
        [
            by_hand(rule, probs[..., b, :].reshape(4, -1, 6)[:, t], q[b])
            for t in range(frames or 1)
            for b in range(3)
        ]
    ).view(shape[1:])
    assert torch.allclose(found.exp(), expected, rtol=1e-9, atol=1e-12)
    weight = torch.randn(shape[1:], dtype=torch.float64)
    wanted = [logits] if rule == "best_layer" else [logits, scores]
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), wanted),
        torch.autograd.grad((expected.log() * weight).sum(), wanted),
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


def test_a_layer_without_weight_has_no_say():
    log_probs = torch.tensor([[[0.0, float("-inf")]], [[0.5, 0.5]]])
    log_probs[1] = log_probs[1].log()
    for rule in RULES:
        found = combine(log_probs, torch.tensor([[0.0, 1.0]]).log(), rule)
        assert torch.allclose(found.exp(), torch.tensor([[0.5, 0.5]])), rule


def test_unknown_rule():
    with pytest.raises(ValueError, match="'vote': choose one of mixture, log_linear, best_layer"):
        combine(torch.zeros(2, 1, 2), torch.zeros(1, 2), "vote")
