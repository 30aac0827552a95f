"""The prior p(l): where useful layers are expected before an utterance is heard."""

import math

import torch
from torch import Tensor, nn

from .choices import PRIORS


def layer_prior(
    kind: str, num_layers: int, *, df: float = 2.0, nc: float = 10.0, p: float = 0.45
) -> Tensor:
    """p(l) for l = 0 (lowest layer) .. num_layers - 1 (docs/method.md, "The prior").

    Args:
        kind: one of `PRIORS`. A `_reversed` prior is the plain one read from the top.
        num_layers: L.
        df, nc: degrees of freedom (> 0) and non-centrality (>= 0) of the chi-squared kinds.
        p: success probability, 0 < p < 1, of the geometric kinds.

    Returns:
        float32 [L], non-negative, summing to 1.

    Raises:
        ValueError: for an unknown kind or a parameter out of range, whether or not the chosen kind
            reads it: a wrong number in a configuration is never silent.
    """
    if kind not in PRIORS:
        raise ValueError(f"unknown prior {kind!r}: choose one of {', '.join(PRIORS)}")
    if num_layers < 1:
        raise ValueError(f"a prior needs at least 1 layer, got {num_layers}")
    if not (math.isfinite(df) and df > 0):
        raise ValueError(f"prior df must be a finite number > 0, got {df}")
    if not (math.isfinite(nc) and nc >= 0):
        raise ValueError(f"prior nc must be a finite number >= 0, got {nc}")
    if not 0 < p < 1:
        raise ValueError(f"prior p must lie strictly between 0 and 1, got {p}")

    shape = kind.replace("_reversed", "")
    if num_layers == 1:
        probs = torch.ones(1, dtype=torch.float64)
    elif shape == "uniform":
        probs = torch.full((num_layers,), 1 / num_layers, dtype=torch.float64)
    elif shape == "geometric":
        probs = p * (1 - p) ** torch.arange(num_layers, dtype=torch.float64)
        probs[-1] = (1 - p) ** (num_layers - 1)
    else:
        probs = _chi2(num_layers, df, nc)
    if kind.endswith("_reversed"):
        probs = probs.flip(0)
    return (probs / probs.sum()).float()


def _chi2(num_layers: int, df: float, nc: float) -> Tensor:
    from scipy.stats import ncx2  # slow to import, and only this prior needs it

    low, high = ncx2.ppf([0.01, 0.99], df, nc)
    points = torch.linspace(low, high, num_layers, dtype=torch.float64)
    probs = torch.from_numpy(ncx2.pdf(points.numpy(), df, nc)) * (points[1] - points[0])
    # Entry 0 takes the leftover. A coarse grid can overshoot 1, hence the clamp.
    probs[0] = (1 - probs[1:].sum()).clamp(min=0)
    return probs


class ExactBuffers(nn.Module):
    """A module whose own buffers move with it, but are never rounded by `half()`."""

    def _apply(self, fn, *args, **kwargs):
        exact = dict(self._buffers)
        super()._apply(fn, *args, **kwargs)
        for name, value in exact.items():
            self._buffers[name] = value.to(self._buffers[name].device)
        return self


class LayerPrior(ExactBuffers):
    """Holds p(l) as a float32 buffer `probs` [L], saved with the module. Uniform until `set`
    is called."""

    probs: Tensor

    def __init__(self, num_layers: int):
        super().__init__()
        self.register_buffer("probs", layer_prior("uniform", num_layers))

    def keep_lowest(self, layers: int) -> None:
        """Forgets the layers above; what is left sums to 1 again."""
        self.probs = self.probs[:layers] / self.probs[:layers].sum()

    def set(self, probs: Tensor) -> None:
        self.probs.copy_(probs)
