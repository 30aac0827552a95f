"""Classification's mathematics: pooled aggregations, cross-entropy, and what q learns."""

import math

import pytest
import torch
from test_aggregation import (
    FRAMES,
    MASK,
    OPTIONS,
    B,
    L,
    V,
    build,
    random_states,
    same_gradients,
    single,
)
from torch.nn import functional as F

from varan_fairseq.method.aggregation import build_aggregation
from varan_fairseq.method.choices import AGGREGATIONS
from varan_fairseq.method.classification import layerwise_cross_entropy
from varan_fairseq.method.objective import variational_objective
from varan_fairseq.method.prior import layer_prior


def reference(module, name, states):
    """(logits [K, V], log q [K]) of one utterance without padding: states [frames, D]."""
    if name == "last_layer":
        return module.heads[0](states[-1].mean(0))[None], torch.zeros(1, dtype=torch.float64)
    if module.norms.norms:
        normed = [norm(state) for norm, state in zip(module.norms.norms, states)]
        states = normed + states[-1:]
    pooled = torch.stack([state.sum(0) / len(state) for state in states])
    if name != "varan":
        read = single(module, name, states, pooled[None]).mean(0)
        return module.heads[0](read)[None], torch.zeros(1, dtype=torch.float64)
    logits = torch.stack([module.heads[layer](u) for layer, u in enumerate(pooled)])
    return logits, module.posterior(pooled[None])[0]


def test_pooled_heads_have_no_context():
    with pytest.raises(
        ValueError, match="head_context=2: one prediction an utterance has no frame"
    ):
        build("varan", pooled=True, head_context=2)


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("options", [each for each in OPTIONS if "head_context" not in each])
def test_pooled_values_and_gradients_do_not_depend_on_padding(name, options):
    """Padding filled with large numbers against each utterance computed alone without padding."""
    module, clean = build(name, pooled=True, **options), random_states()
    padding = MASK.t().unsqueeze(-1)
    dirty = [s.detach().masked_fill(padding, 1234.5).requires_grad_() for s in clean]
    reading = module(dirty, MASK)
    weights = [torch.randn(B, V, dtype=torch.float64) for _ in reading.logits]
    weight_q = torch.randn(B, len(weights), dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for b, frames in enumerate(FRAMES):
        logits, log_q = reference(module, name, [s[:frames, b] for s in clean])
        for k, weight in enumerate(weights):
            assert torch.allclose(reading.logits[k][b], logits[k], rtol=1e-9, atol=1e-12)
            expected = expected + (logits[k] * weight[b]).sum()
        assert torch.allclose(reading.log_q[b], log_q, rtol=1e-9, atol=1e-12)
        expected = expected + (log_q * weight_q[b]).sum()
    found = (reading.log_q * weight_q).sum()
    for logits, weight in zip(reading.logits, weights):
        found = found + (logits * weight).sum()
    same_gradients(module, found, dirty, expected, clean)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.0, 1.5]])
def test_cross_entropy_by_hand(smoothing, weights):
    torch.manual_seed(0)
    logits = [torch.randn(B, V, dtype=torch.float64, requires_grad=True) for _ in range(L)]
    targets = torch.tensor([4, 0, 1])
    tensor = None if weights is None else torch.tensor(weights)
    found = layerwise_cross_entropy(logits, targets, tensor, smoothing)
    assert found.shape == (B, L) and found.dtype == torch.float64

    w = weights or [1.0] * V
    for layer in range(L):
        for b in range(B):
            row = logits[layer][b].tolist()
            normaliser = math.log(sum(math.exp(x) for x in row))
            log_p = [x - normaliser for x in row]
            y = int(targets[b])
            expected = -(1 - smoothing) * w[y] * log_p[y]
            expected -= smoothing / V * sum(w[c] * log_p[c] for c in range(V))
            assert float(found[b, layer]) == pytest.approx(expected, rel=1e-9)
            # and its gradient: w-weighted softmax minus target, smoothed alike
            share = [smoothing / V * w[c] + (1 - smoothing) * w[y] * (c == y) for c in range(V)]
            gradient = torch.autograd.grad(found[b, layer], logits[layer], retain_graph=True)[0][b]
            by_hand = [sum(share) * math.exp(log_p[c]) - share[c] for c in range(V)]
            assert gradient.tolist() == pytest.approx(by_hand, rel=1e-9, abs=1e-12)


def test_half_precision_is_computed_in_float32():
    logits = [torch.randn(B, V).to(torch.bfloat16) for _ in range(L)]
    assert layerwise_cross_entropy(logits, torch.tensor([0, 1, 2])).dtype == torch.float32


LAYERS, WIDTH, CLASSES = 4, 16, 4


def puzzle(count, seed):
    """Utterances of which the first half carries its class at layer 1 and nothing at layer 3,
    the second half the other way round; a direction of layer 2 tells the halves apart.
    Returns states (L tensors [T, N, D]), targets [N], halves [N] bool."""
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(3, count, WIDTH, generator=generator) * 0.3 for _ in range(LAYERS)]
    targets = torch.randint(CLASSES, (count,), generator=generator)
    second = torch.arange(count) >= count // 2
    signal = 2 * F.one_hot(targets, WIDTH).float()
    wrong = torch.randint(CLASSES, (count,), generator=generator)
    noise = 2 * F.one_hot(wrong, WIDTH).float()
    states[0] += torch.where(second.unsqueeze(1), noise, signal)
    states[2] += torch.where(second.unsqueeze(1), signal, noise)
    states[1][..., -1] += torch.where(second, 2.0, -2.0)
    return states, targets, second


def train(batch_averaged):
    """Mean q [2, L] of each half of new utterances, after training on others."""
    torch.manual_seed(0)
    module = build_aggregation(
        "varan", num_layers=LAYERS, dim=WIDTH, num_classes=CLASSES, posterior_heads=4,
        layer_embedding=True, pooled=True,
    )  # fmt: skip
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    prior = layer_prior("uniform", LAYERS)
    for step in range(400):
        states, targets, _ = puzzle(64, step)
        reading = module(states, None)
        nll = layerwise_cross_entropy(reading.logits, targets)
        if batch_averaged:  # the release: averaged over the batch before q weighs it
            nll = nll.mean(0, keepdim=True).expand_as(nll)
        total, _, _ = variational_objective(nll, reading.log_q, prior, 0.01, "prior_posterior")
        optimizer.zero_grad()
        total.mean().backward()
        optimizer.step()
    states, targets, second = puzzle(256, 10**6)
    reading = module(states, None)
    q = reading.log_q.exp()
    return torch.stack([q[~second].mean(0), q[second].mean(0)])


def test_the_posterior_learns_which_layer_is_right_for_whom():
    q = train(batch_averaged=False)
    assert q[0].argmax() == 0 and q[1].argmax() == 2
    assert q[0, 0] > 0.7 and q[1, 2] > 0.7, q


def test_a_batch_averaged_loss_does_not_teach_it_that():
    q = train(batch_averaged=True)
    assert (q[0] - q[1]).abs().max() < 0.2, q
    assert q[0, 0] < 0.7 or q[1, 2] < 0.7
