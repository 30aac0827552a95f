"""CTC of every layer at once, without CTC's memory (docs/method.md, "What training minimises")."""

from typing import List

import torch
from torch import Tensor
from torch.nn import functional as F

# Bytes of CTC's forward table that may exist at once. On a GPU all layers go in one call,
# which is what keeps it busy; a CPU gains nothing from larger calls.
CPU_TABLE_BYTES = 16 * 2**20
GPU_TABLE_BYTES = 2**30


def ctc_feasible(targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Whether CTC has any path: targets [B, S], lengths [B] -> [B] bool.

    Needs a frame per label, and one more between two equal neighbours.
    """
    position = torch.arange(targets.shape[1], device=targets.device)[1:]
    inside = position < target_lengths.unsqueeze(1)
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
    return input_lengths >= target_lengths + repeats


def layerwise_ctc(
    logits: List[Tensor],
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
) -> Tensor:
    """CTC negative log-likelihood of every utterance at every layer, not length-normalised.

    Args:
        logits: L tensors [T, B, V], any float dtype; half precision is computed in float32.
        targets: [B, S], padded with any label.
        input_lengths, target_lengths: [B].
        blank: its index.
        zero_infinity: whether an utterance with more labels than frames gives 0 (and no gradient)
            instead of infinity.

    Returns:
        [B, L], at least float32.
    """
    # The only time that the host waits for a GPU here: `ctc_loss` wants them there.
    lengths = torch.stack([input_lengths, target_lengths]).cpu()
    return _LayerwiseCtc.apply(targets, *lengths, blank, zero_infinity, *logits)


class _LayerwiseCtc(torch.autograd.Function):
    """Differentiates each call of `ctc_loss` at once and keeps the gradient: it has the
    size of the logits, while the tables that CTC's own backward pass needs are S times
    larger. The rest of the objective only scales it, per utterance and layer."""

    @staticmethod
    def forward(ctx, targets, input_lengths, target_lengths, blank, zero_infinity, *logits):
        frames, batch, classes = logits[0].shape
        dtype = torch.promote_types(logits[0].dtype, torch.float32)
        # a call also has the logits, twice, their softmax and its gradient
        table = frames * batch * (2 * targets.shape[1] + 1 + 4 * classes) * 4
        budget = GPU_TABLE_BYTES if logits[0].is_cuda else CPU_TABLE_BYTES
        per_call = max(1, budget // table)
        wants_grad = any(ctx.needs_input_grad[5:])

        nll, grads = [], []
        for start in range(0, len(logits), per_call):
            some = [layer.detach() for layer in logits[start : start + per_call]]
            with torch.enable_grad() if wants_grad else torch.no_grad():
                stacked = torch.cat(some, dim=1).to(dtype).requires_grad_(wants_grad)
                with torch.backends.cudnn.flags(enabled=False):  # not deterministic
                    loss = F.ctc_loss(
                        F.log_softmax(stacked, dim=-1),
                        targets.repeat(len(some), 1),
                        input_lengths.repeat(len(some)),
                        target_lengths.repeat(len(some)),
                        blank=blank,
                        reduction="none",
                        zero_infinity=zero_infinity,
                    )
                if wants_grad:
                    grads.append(torch.autograd.grad(loss.sum(), stacked)[0])
            nll.append(loss.detach().view(len(some), batch))
        ctx.save_for_backward(*grads)
        ctx.dtype = logits[0].dtype
        return torch.cat(nll).t()

    @staticmethod
    def backward(ctx, grad_nll):
        batch, scaled = len(grad_nll), []
        for grad in ctx.saved_tensors:  # [T, layers * B, V]
            layers = slice(len(scaled), len(scaled) + grad.shape[1] // batch)
            factor = grad_nll[:, layers].t().reshape(-1, 1)
            scaled += (grad * factor).to(ctx.dtype).split(batch, dim=1)
        return (None,) * 5 + tuple(scaled)
