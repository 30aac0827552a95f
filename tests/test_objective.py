"""Divergences, the objective and CTC against independent float64 computations."""

import itertools
import math

import pytest
import torch

from varan_fairseq.method import ctc
from varan_fairseq.method.ctc import ctc_feasible, layerwise_ctc
from varan_fairseq.method.objective import layer_divergence, variational_objective
from varan_fairseq.method.prior import layer_prior


def random_posterior(batch=3, layers=5):
    return torch.randn(batch, layers, dtype=torch.float64).log_softmax(-1).requires_grad_()


def divergence_by_hand(q, p, direction):
    left, right = (p, q) if direction == "prior_posterior" else (q, p)
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(left, right))


@pytest.mark.parametrize("direction", ["prior_posterior", "posterior_prior"])
def test_divergence(direction):
    torch.manual_seed(0)
    prior, log_q = layer_prior("chi2_reversed", 5, df=3).double(), random_posterior()
    found = layer_divergence(log_q, prior, direction)
    for row, value in zip(log_q.exp().tolist(), found.tolist()):
        assert value == pytest.approx(divergence_by_hand(row, prior.tolist(), direction), abs=1e-12)
    gradient = torch.autograd.grad(found.sum(), log_q)[0]
    q = log_q.detach().exp()
    by_hand = (
        -prior.expand_as(q) if direction == "prior_posterior" else q * (1 + log_q - prior.log())
    )
    assert torch.allclose(gradient, by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("direction", ["prior_posterior", "posterior_prior"])
def test_zero_probabilities_give_no_nan(direction):
    prior = torch.tensor([0.0, 0.5, 0.5])
    log_q = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5]]).log().requires_grad_()
    value = layer_divergence(log_q, prior, direction)
    assert torch.isfinite(value).all() and value[1].item() == pytest.approx(0, abs=1e-6)
    if direction == "prior_posterior":  # an entry of p = 0 contributes 0
        expected = 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.5)
        assert value[0].item() == pytest.approx(expected, abs=1e-6)
    assert not torch.isnan(torch.autograd.grad(value[0], log_q)[0]).any()


@pytest.mark.parametrize("direction", ["prior_posterior", "posterior_prior"])
def test_objective_and_gradients(direction):
    torch.manual_seed(1)
    nll = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    log_q, prior = random_posterior(), layer_prior("geometric", 5).double()
    total, expected, divergence = variational_objective(nll, log_q, prior, 0.3, direction)
    for b in range(3):
        q = log_q[b].exp().tolist()
        by_hand = sum(a * b for a, b in zip(q, nll[b].tolist()))
        kl = divergence_by_hand(q, prior.tolist(), direction)
        assert expected[b].item() == pytest.approx(by_hand, abs=1e-12)
        assert divergence[b].item() == pytest.approx(kl, abs=1e-12)
        assert total[b].item() == pytest.approx(by_hand + 0.3 * kl, abs=1e-12)
    to_nll, to_q = torch.autograd.grad(total.sum(), [nll, log_q])
    q = log_q.detach().exp()
    assert torch.allclose(to_nll, q, rtol=1e-9, atol=1e-12)
    to_kl = -prior.expand_as(q) if direction == "prior_posterior" else q * (1 + log_q - prior.log())
    assert torch.allclose(to_q, q * nll + 0.3 * to_kl, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_bad_beta(beta):
    with pytest.raises(ValueError, match=f"beta must be a finite number >= 0, got {beta}"):
        variational_objective(
            torch.ones(1, 2), torch.zeros(1, 2), torch.ones(2), beta, "prior_posterior"
        )


def test_unknown_direction():
    with pytest.raises(
        ValueError, match="'sideways': choose one of prior_posterior, posterior_prior"
    ):
        layer_divergence(torch.zeros(1, 2), torch.ones(2) / 2, "sideways")


def ctc_by_enumeration(logits, target, blank=0):
    """-log p(target) of [T, V] logits, over every path there is."""
    log_probs = logits.log_softmax(-1)
    frames, labels = logits.shape
    total = torch.tensor(float("-inf"), dtype=logits.dtype)
    for path in itertools.product(range(labels), repeat=frames):
        merged = [label for label, _ in itertools.groupby(path) if label != blank]
        if merged == target:
            total = torch.logaddexp(total, sum(log_probs[t, v] for t, v in enumerate(path)))
    return -total


TARGETS, LENGTHS = [[1, 2], [2, 2], [1]], [4, 3, 2]


def padded_targets():
    return torch.tensor([[1, 2, 0], [2, 2, 9], [1, 9, 9]]).clamp(max=2)


@pytest.mark.parametrize("table", [1, 10**9])  # a call a layer, one call for all
def test_layerwise_ctc(monkeypatch, table):
    monkeypatch.setattr(ctc, "CPU_TABLE_BYTES", table)
    torch.manual_seed(2)
    logits = [torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.rand(3, 3, dtype=torch.float64)
    lengths = torch.tensor(LENGTHS), torch.tensor([2, 2, 1])
    found = layerwise_ctc(logits, padded_targets(), *lengths, 0, True)
    expected = torch.stack(
        [
            torch.stack(
                [ctc_by_enumeration(layer[: LENGTHS[b], b], TARGETS[b]) for layer in logits]
            )
            for b in range(3)
        ]
    )
    assert found.shape == (3, 3) and torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), logits),
        torch.autograd.grad((expected * weight).sum(), logits),
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_half_precision_logits_are_scored_in_float32():
    logits = [torch.randn(4, 3, 3).half().requires_grad_()]
    nll = layerwise_ctc(
        logits, padded_targets(), torch.tensor(LENGTHS), torch.tensor([2, 2, 1]), 0, True
    )
    assert nll.dtype == torch.float32
    nll.sum().backward()
    assert logits[0].grad.dtype == torch.float16 and torch.isfinite(logits[0].grad).all()


def test_more_labels_than_frames():
    targets, frames, labels = (
        torch.tensor([[1, 1, 2], [1, 2, 0]]),
        torch.tensor([3, 3]),
        torch.tensor([3, 2]),
    )
    assert ctc_feasible(targets, frames, labels).tolist() == [False, True]
    assert ctc_feasible(targets, frames + 1, labels).tolist() == [True, True]
    logits = [torch.randn(3, 2, 3, requires_grad=True)]
    silent = layerwise_ctc(logits, targets, frames, labels, 0, True)
    assert silent[0].item() == 0 and silent[1].item() > 0
    silent.sum().backward()
    assert not logits[0].grad[:, 0].any() and logits[0].grad[:, 1].any()
    assert layerwise_ctc(logits, targets, frames, labels, 0, False)[0].item() == float("inf")
