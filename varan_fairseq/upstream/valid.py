"""What of a batch is not padding, said to the parts of a model that fairseq does not tell.

It is known in a forward pass and its recomputation, of the calling thread alone: threads that
share a model do not see each other's, and nothing is left behind for a later call.
"""

import contextlib
import contextvars
from dataclasses import dataclass
from typing import Dict, Iterator, Optional

from torch import Tensor, nn


@dataclass(frozen=True)
class Valid:
    """frames: [B], valid frames of the states. inside: the same where a module of the feature
    encoder is, if there is padding."""

    frames: Tensor
    inside: Dict[nn.Module, Tensor]


_VALID: contextvars.ContextVar = contextvars.ContextVar("valid", default=None)


def current() -> Optional[Valid]:
    """None outside of a forward pass, as where a pre-trained model is used directly."""
    return _VALID.get()


@contextlib.contextmanager
def during(valid: Optional[Valid]) -> Iterator[None]:
    """While active, `current` is this."""
    token = _VALID.set(valid)
    try:
        yield
    finally:
        _VALID.reset(token)
