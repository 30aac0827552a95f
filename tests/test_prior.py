"""Priors against an independent float64 computation."""

import math

import pytest
import torch

from varan_fairseq.method.choices import PRIORS
from varan_fairseq.method.prior import LayerPrior, layer_prior

# The non-central chi-squared as a Poisson mixture of central ones, without scipy.


def _terms(df, nc):
    terms = torch.arange(400, dtype=torch.float64)
    log_poisson = -nc / 2 + terms * math.log(nc / 2) - torch.lgamma(terms + 1)
    return log_poisson, df / 2 + terms


def _pdf(x, df, nc):
    log_poisson, half = _terms(df, nc)
    log_chi2 = (half - 1) * math.log(x) - x / 2 - half * math.log(2) - torch.lgamma(half)
    return (log_poisson + log_chi2).exp().sum().item()


def _quantile(level, df, nc):
    log_poisson, half = _terms(df, nc)
    low, high = 0.0, 10.0 * (df + nc) + 100
    for _ in range(200):
        x = (low + high) / 2
        below = torch.special.gammainc(half, torch.full_like(half, x / 2))
        cdf = (log_poisson.exp() * below).sum().item()
        low, high = (x, high) if cdf < level else (low, x)
    return x


def _expected(kind, layers, df, nc, p):
    base = kind.replace("_reversed", "")
    if base == "uniform":
        probs = [1 / layers] * layers
    elif base == "geometric":
        probs = [p * (1 - p) ** layer for layer in range(layers)]
        probs[-1] = (1 - p) ** (layers - 1)
    else:
        low, high = _quantile(0.01, df, nc), _quantile(0.99, df, nc)
        step = (high - low) / (layers - 1)
        probs = [_pdf(low + layer * step, df, nc) * step for layer in range(layers)]
        probs[0] += 1 - sum(probs)
    return probs[::-1] if kind.endswith("reversed") else probs


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("layers", [2, 6, 12, 24])
@pytest.mark.parametrize("df, nc, p", [(2.0, 10.0, 0.45), (35.0, 10.0, 0.2), (6.0, 3.0, 0.9)])
def test_values(kind, layers, df, nc, p):
    probs = layer_prior(kind, layers, df=df, nc=nc, p=p)
    expected = torch.tensor(_expected(kind, layers, df, nc, p), dtype=torch.float64)
    assert probs.dtype == torch.float32 and probs.shape == (layers,)
    assert (probs >= 0).all() and abs(probs.double().sum().item() - 1) < 1e-6
    assert torch.allclose(probs.double(), expected, atol=2e-7)


def test_reversed_puts_the_mass_on_top_and_the_leftover_at_the_end():
    plain, flipped = layer_prior("geometric", 8), layer_prior("geometric_reversed", 8)
    assert flipped.argmax() == 7 and torch.equal(plain.flip(0), flipped)


@pytest.mark.parametrize("kind", PRIORS)
def test_a_single_layer_is_certain(kind):
    assert layer_prior(kind, 1).tolist() == [1.0]


@pytest.mark.parametrize(
    "kind, options, words",
    [
        ("poisson", {}, "uniform, geometric, geometric_reversed, chi2, chi2_reversed"),
        ("chi2", {"df": 0}, "df must be"),
        ("chi2", {"df": float("nan")}, "df must be"),
        ("chi2", {"nc": -1}, "nc must be"),
        ("geometric", {"p": 0}, "p must lie"),
        ("geometric", {"p": 1}, "p must lie"),
        ("uniform", {"df": -3}, "df must be"),
    ],
)
def test_errors_name_the_value_and_what_is_wanted(kind, options, words):
    with pytest.raises(ValueError, match=words):
        layer_prior(kind, 4, **options)


def test_buffer_is_saved_and_survives_half_precision():
    prior = LayerPrior(5)
    exact = layer_prior("chi2_reversed", 5)
    prior.set(exact)
    prior.half()
    assert prior.probs.dtype == torch.float32 and torch.equal(prior.probs, exact)
    other = LayerPrior(5)
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.probs, exact)
