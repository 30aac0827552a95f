"""log p_k(y | x) of many transcripts, for a GPU, which would wait for each small step of
`forward_recursion`: the plain formula is `-F.ctc_loss(log_probs_k, y)`, here for all at once."""

from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def bytes_of_a_row(layers: int, frames: int, width: int) -> int:
    """What `log_likelihood` needs for a transcript of `width` labels."""
    return 8 * layers * frames * 5 * (width + 1)


def log_likelihood(
    log_probs: Sequence[Tensor], utterance: Tensor, labels: Tensor, lengths: Tensor, blank: int
) -> Tensor:
    """log p_k(y | x) of many transcripts in every layer, by one `F.ctc_loss` in float64.

    Its classes are the labels of a transcript, so that the size of the vocabulary is of no account.

    log_probs: L tensors [T, B, V]. utterance: [N], which of the B. labels: [N, S], padded with -1.
    lengths: [N], valid frames. Returns [N, L] float64.
    """
    layers, rows = len(log_probs), len(labels)
    # Class j > 0: the label at place j. The same label twice in a row is one class, for CTC asks
    # whether neighbours are equal, and of nothing else.
    other = F.pad(labels[:, 1:] != labels[:, :-1], (1, 0), value=True)
    place = other.cumsum(1)
    of_class = labels.new_full((rows, labels.shape[1] + 1), blank)
    of_class.scatter_(1, place, labels.clamp(min=0))
    owner = utterance.unsqueeze(1)
    emissions = torch.cat([layer[:, owner, of_class].double() for layer in log_probs], dim=1)
    counts = (labels >= 0).sum(1)
    lengths, counts = torch.stack([lengths, counts]).cpu()
    with torch.backends.cudnn.flags(enabled=False):  # not deterministic
        nll = F.ctc_loss(
            emissions,
            place.repeat(layers, 1),
            lengths.repeat(layers),
            counts.repeat(layers),
            blank=0,
            reduction="none",
        )
    return -nll.view(layers, rows).t()
