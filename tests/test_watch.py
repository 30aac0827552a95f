"""Warnings about the posterior: each for what it names, once, and none for a healthy one."""

import types

import pytest
import torch
from build import batch, build_criterion, build_model, setup_task

from varan_fairseq.criterions.watch import PosteriorWatch


def model(updates):
    return types.SimpleNamespace(
        cfg=types.SimpleNamespace(posterior="input"),
        w2v_encoder=types.SimpleNamespace(num_updates=updates),
    )


def validate(watch, scores, updates=500, divergence=0.02, losses=None, prior=None):
    """A validation in batches of 8. losses: of the layers, alike without."""
    log_q, layers = scores.log_softmax(-1), scores.shape[1]
    losses = torch.ones(layers) if losses is None else torch.tensor(losses)
    prior = torch.full((layers,), 1 / layers) if prior is None else torch.tensor(prior)
    for part in log_q.split(8):
        watch.step(model(updates))
        nll = losses + 0.01 * torch.randn(len(part), layers)
        watch.see(part, torch.full((len(part),), divergence), nll, prior)


def healthy(utterances=24, layers=6):
    torch.manual_seed(0)
    return torch.randn(layers) + 0.05 * torch.randn(utterances, layers)


def test_a_healthy_posterior(caplog):
    watch = PosteriorWatch(1000)
    for updates in (200, 400, 600):
        validate(watch, healthy(), updates, divergence=0.01 * updates / 200)
    assert caplog.text == ""


def test_flat_over_some_layers(caplog):
    watch, scores = PosteriorWatch(1000), healthy()
    scores[:, 1] = scores[:, 4]
    for updates in (500, 600):
        validate(watch, scores, updates)
    assert caplog.text.count("layers 2, 5 weigh the same in every utterance") == 1
    assert "model.posterior_lr_multiplier" in caplog.text and len(caplog.records) == 1


def test_layers_that_differ_in_one_utterance_are_not_flat(caplog):
    scores = healthy()
    scores[1:, 1] = scores[1:, 4]
    validate(PosteriorWatch(1000), scores)
    assert caplog.text == ""


def test_layers_without_weight_may_tie(caplog):
    scores = healthy()
    scores[:, :2] = -20.0
    validate(PosteriorWatch(1000), scores)
    assert caplog.text == ""


def test_the_same_for_all(caplog):
    watch, scores = PosteriorWatch(1000), healthy()[:1].expand(24, 6) + 0.0
    for updates in (500, 600):
        validate(watch, scores, updates)
    assert caplog.text.count("q(l|x) is the same for all utterances") == 1
    assert "Lower criterion.beta" in caplog.text and len(caplog.records) == 1


def test_runaway(caplog):
    watch = PosteriorWatch(1000)
    validate(watch, healthy(), 300, divergence=0.3)
    validate(watch, healthy(), 400, divergence=2.9)
    assert caplog.text == ""
    for updates in (500, 600):
        validate(watch, healthy(), updates, divergence=3.1)
    assert caplog.text.count("divergence is 3.10 nats, after warm-up it was at most 0.30") == 1
    assert "raise criterion.beta" in caplog.text


def test_a_reference_of_nothing_is_no_alarm(caplog):
    """A centred posterior begins on the prior."""
    watch = PosteriorWatch(1000)
    validate(watch, healthy(), 500, divergence=0.0)
    validate(watch, healthy(), 600, divergence=0.9)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "losses, prior, said",
    [
        ([0.7, 0.8, 0.9, 1.0], [0.01, 0.09, 0.3, 0.6], True),
        ([0.9, 0.8, 0.9, 1.0], [0.01, 0.09, 0.3, 0.6], False),  # layer 2 has enough of the prior
        ([0.92, 0.93, 0.93, 0.94], [0.01, 0.09, 0.3, 0.6], False),  # hardly better
        ([1.0, 0.9, 0.8, 0.7], [0.01, 0.09, 0.3, 0.6], False),
        ([0.7, 0.8, 0.9, 1.0], [0.25] * 4, False),
    ],
)
def test_a_prior_that_looks_elsewhere(caplog, losses, prior, said):
    watch = PosteriorWatch(1000)
    for updates in (499, 500, 1000):
        validate(watch, healthy(layers=4), updates, losses=losses, prior=prior)
        if updates < 500:
            assert caplog.text == "", "low layers learn first"
    text = "layer 1 reads best, but the prior gives it 1.0%, where layers alike would have 25.0%"
    assert caplog.text.count(text) == said and len(caplog.records) == said
    assert caplog.text.count("try criterion.prior=uniform") == said


@pytest.mark.parametrize("max_update, first", [(1000, 100), (0, 1000)])
def test_not_before_the_first_tenth(caplog, max_update, first):
    watch, scores = PosteriorWatch(max_update), torch.zeros(24, 6)
    validate(watch, scores, updates=first - 1)
    assert caplog.text == ""
    validate(watch, scores, updates=first)
    assert len(caplog.records) == 2


def test_too_few_to_tell(caplog):
    validate(PosteriorWatch(1000), torch.zeros(15, 6))
    assert caplog.text == ""


def test_within_the_criterion(corpus, wav2vec2, caplog):
    """Only in validation, and never for a model without a posterior."""
    task = setup_task(corpus)
    cases = ({}, 1), ({"aggregation": "last_layer"}, 0), ({"posterior": "static"}, 0)
    for options, wanted in cases:
        net = build_model(wav2vec2, task, **options)
        if wanted:
            torch.nn.init.zeros_(net.aggregation.posterior.score.weight)
        net.set_num_updates(500)
        criterion = build_criterion(task)
        caplog.clear()
        for training in (True, False):
            net.train(training)
            assert "posterior, " not in caplog.text
            for _ in range(3):
                criterion(net, batch(task))
        assert caplog.text.count("the same for all utterances") == wanted
