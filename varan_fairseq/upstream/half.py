"""Grouped convolutions in half precision on a CPU, where not every processor computes them right.

oneDNN's bf16 kernel for groups of few channels is wrong on processors with AMX (32 channels in 4
groups: a relative error of 1.1). Released encoders have groups of 48 or 64 channels, which are
right everywhere; small ones need not be. So a model that is moved to half precision tries its own.
"""

import functools
import logging
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

logger = logging.getLogger(__name__)

HALF = (torch.bfloat16, torch.float16)
TOLERANCE = 0.1  # relative error; bf16 rounds by 0.004, the wrong kernel is off by 1
_FRAMES = 64  # of the trial, at least


def mend_convolutions(model: nn.Module) -> None:
    """Makes grouped convolutions that are in half precision on a CPU compute in float32, in place,
    where this processor gets them wrong. To be called when a model has been moved."""
    for module in model.modules():
        if type(module) is not nn.Conv1d or module.groups == 1:
            continue
        parameter = next(module.parameters())  # with weight norm, `weight` is none
        if parameter.device.type != "cpu" or parameter.dtype not in HALF:
            continue
        shape = (module.in_channels, module.out_channels, module.groups)
        if not half_is_right(shape, module.kernel_size[0], module.stride[0], parameter.dtype):
            module.__class__ = Float32Conv1d


class Float32Conv1d(nn.Conv1d):
    """What such a convolution becomes by a change of class."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        if x.device.type != "cpu" or x.dtype not in HALF:  # moved again
            return super()._conv_forward(x, weight, bias)
        bias = None if bias is None else bias.float()
        return super()._conv_forward(x.float(), weight.float(), bias).to(x.dtype)


@functools.lru_cache(maxsize=None)
def half_is_right(
    shape: Tuple[int, int, int], kernel: int, stride: int, dtype: torch.dtype
) -> bool:
    """Whether this processor's grouped convolution in half precision agrees with its float32 one,
    forward and backward. Tried once per process and kind; logged if not.

    Args:
        shape: (channels in, channels out, groups).
        kernel: frames of the kernel.
        stride: frames from one output to the next.
        dtype: torch.bfloat16 or torch.float16.
    """
    channels, out, groups = shape
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, max(_FRAMES, 2 * kernel), generator=generator).to(dtype)
    weight = torch.randn(out, channels // groups, kernel, generator=generator).to(dtype)

    def run(of: torch.dtype) -> List[Tensor]:
        inputs = [value.to(of).requires_grad_() for value in (x, weight)]
        with torch.enable_grad():
            y = F.conv1d(inputs[0], inputs[1], stride=stride, padding=kernel // 2, groups=groups)
            gradients = torch.autograd.grad(y.float().square().sum(), inputs)
        return [y.detach(), *gradients]

    try:
        errors = [
            float((half.float() - full).norm() / full.norm())
            for half, full in zip(run(dtype), run(torch.float32))
        ]
    except RuntimeError:  # no kernel for it
        errors = [float("inf")]
    if max(errors) < TOLERANCE:
        return True
    logger.warning(
        "%s is wrong on this processor for a convolution of %d channels in %d groups (relative "
        "error %.2g): it is computed in float32",
        dtype,
        channels,
        groups,
        max(errors),
    )
    return False
