"""What enters and leaves every block of a model while it runs, by hooks that stay."""

import contextvars
import functools
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from .specs import EncoderSpec


class Record:
    """What enters and leaves each block while this is active, in the calling thread.

    Hooks see the blocks as fairseq runs them: wrapped for activation checkpointing
    (recomputation calls no hook), skipped by layerdrop, padded to a multiple.
    """

    def __init__(self, model: nn.Module, spec: EncoderSpec):
        self.spec = spec
        self.extra_frames = spec.extra_frames(model)
        self.entered: List[Optional[Tensor]] = [None] * len(spec.blocks(model))
        self.left: List[Optional[Tensor]] = [None] * len(self.entered)
        self.top: Optional[Tensor] = None  # what the final norm reads

    def __enter__(self) -> None:
        self.token = _RECORD.set(self)

    def __exit__(self, *error) -> None:
        _RECORD.reset(self.token)

    def states(self, output: Tensor) -> List[Tensor]:
        """The L states [T, B, D], cut to the T frames of `output` [B, T, D]."""
        ran = [state for state in self.entered if state is not None]
        if ran:
            below = self._utterance(ran[0], output, self.spec.batch_first)
        elif self.top is not None:
            below = self._utterance(self.top, output, True)
        else:
            below = output.transpose(0, 1)
        states = []
        for left in self.left:
            if left is not None:
                below = self._utterance(left, output, self.spec.batch_first)
            states.append(below)
        return states

    def _utterance(self, state: Tensor, output: Tensor, batch_first: bool) -> Tensor:
        """A state's frames that `output` has too, [T, B, D]."""
        if batch_first:
            state = state.transpose(0, 1)
        return state[self.extra_frames : self.extra_frames + output.shape[1]]


_RECORD: contextvars.ContextVar = contextvars.ContextVar("record", default=None)


def record_blocks(model: nn.Module, spec: EncoderSpec) -> None:
    """Registers the hooks of `Record`, once: threads could not change them while others
    run."""
    for index, block in enumerate(spec.blocks(model)):
        block.register_forward_pre_hook(functools.partial(_enter, index))
        block.register_forward_hook(functools.partial(_leave, index))
    final_norm = spec.final_norm(model)
    if final_norm is not None:
        final_norm.register_forward_pre_hook(_enter_norm)


def _enter(index: int, block: nn.Module, inputs: Tuple) -> Optional[Tuple]:
    record = _RECORD.get()
    if record is None:
        return None
    record.entered[index] = inputs[0]
    return _grad_for_recomputation(block, inputs)


def _leave(index: int, _, inputs: Tuple, outputs) -> None:
    record = _RECORD.get()
    if record is not None:
        record.left[index] = outputs[0] if isinstance(outputs, tuple) else outputs


def _enter_norm(_, inputs: Tuple) -> None:
    record = _RECORD.get()
    if record is not None:
        record.top = inputs[0]


def _grad_for_recomputation(block: nn.Module, inputs: Tuple) -> Optional[Tuple]:
    """fairseq's activation checkpointing gives a block's parameters no gradient if its input
    needs none, as in the lowest adapted block of a frozen encoder: makes it need one."""
    if (
        not hasattr(block, "precheckpoint_forward")
        or not torch.is_grad_enabled()
        or inputs[0].requires_grad
        or not any(parameter.requires_grad for parameter in block.parameters())
    ):
        return None
    return (inputs[0].detach().requires_grad_(), *inputs[1:])
