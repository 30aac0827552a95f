"""The hidden states of every block, under one contract for all encoders."""

import contextlib
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from .kinds import Kind


class EncoderOutput(NamedTuple):
    """states: always L tensors [T, B, D], the outputs of the blocks, lowest first. A block
    that layerdrop skips is the identity: its state is its input. output: [T, B, D], the
    encoder's own output: states[-1], after the final LayerNorm if there is one.
    padding_mask: [B, T] bool, True = padding, or None. lengths: [B] long, valid frames."""

    states: List[Tensor]
    output: Tensor
    padding_mask: Optional[Tensor]
    lengths: Tensor


class Encoder(nn.Module):
    """A pre-trained model that returns every layer.

    The model lies in `w2v_model`, the name that fairseq's own fine-tuning models use, so
    weights and `freeze_regex` patterns carry over.

    apply_mask: mask spans of the features while training. freeze_finetune_updates: run
    the model without a graph for so many updates.
    """

    def __init__(
        self,
        w2v_model: nn.Module,
        kind: Kind,
        *,
        apply_mask: bool = False,
        freeze_finetune_updates: int = 0,
    ):
        super().__init__()
        self.w2v_model = w2v_model
        self.kind = kind
        self.apply_mask = apply_mask
        self.freeze_finetune_updates = freeze_finetune_updates
        self.frozen = False
        self.num_updates = 0
        self.num_layers = len(kind.blocks(w2v_model))
        self.dim = kind.dim(w2v_model)
        self.pre_norm = kind.final_norm(w2v_model) is not None

    def freeze(self) -> None:
        """From now on the model runs without a graph, and as in evaluation, while training
        too: no dropout, no layerdrop. Masking, if asked for, goes on."""
        self.frozen = True
        self.w2v_model.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.frozen:
            self.w2v_model.eval()
        return self

    def set_num_updates(self, num_updates: int) -> None:
        self.num_updates = num_updates

    def forward(self, source: Tensor, padding_mask: Optional[Tensor]) -> EncoderOutput:
        """source: [B, samples] waveform. padding_mask: [B, samples] bool or None."""
        frozen = self.frozen or self.num_updates < self.freeze_finetune_updates
        with torch.no_grad() if frozen else contextlib.nullcontext():
            with _Recorder(self.w2v_model, self.kind) as record:
                output, padding_mask = self.kind.extract(
                    self.w2v_model, source, padding_mask, self.apply_mask and self.training
                )
            states = record.states(output)
        if padding_mask is None:
            lengths = torch.full((len(output),), output.shape[1], device=output.device)
        else:
            lengths = (~padding_mask).sum(1)
        return EncoderOutput(states, output.transpose(0, 1), padding_mask, lengths)


class _Recorder:
    """Records, while active, what enters and leaves each block.

    Hooks see the blocks as fairseq runs them: wrapped for activation checkpointing
    (recomputation calls no hook), skipped by layerdrop, padded to a multiple.
    """

    def __init__(self, model: nn.Module, kind: Kind):
        self.blocks = list(kind.blocks(model))
        self.final_norm = kind.final_norm(model)
        self.entered = [None] * len(self.blocks)
        self.left = [None] * len(self.blocks)
        self.top = None  # what the final norm reads
        self.handles = []

    def __enter__(self) -> "_Recorder":
        for index, block in enumerate(self.blocks):

            def enter(block, inputs, index=index):
                self.entered[index] = inputs[0]
                return _grad_for_recomputation(block, inputs)

            def leave(_, inputs, outputs, index=index):
                self.left[index] = outputs[0] if isinstance(outputs, tuple) else outputs

            self.handles.append(block.register_forward_pre_hook(enter))
            self.handles.append(block.register_forward_hook(leave))
        if self.final_norm is not None:

            def enter_norm(_, inputs):
                self.top = inputs[0]

            self.handles.append(self.final_norm.register_forward_pre_hook(enter_norm))
        return self

    def __exit__(self, *error) -> None:
        for handle in self.handles:
            handle.remove()

    def states(self, output: Tensor) -> List[Tensor]:
        """The L states [T, B, D], cut to the T frames of `output` [B, T, D]."""
        top = output if self.top is None else self.top
        ran = [state for state in self.entered if state is not None]
        below = ran[0] if ran else top.transpose(0, 1)
        states = []
        for left in self.left:
            below = below if left is None else left
            states.append(below[: output.shape[1]])
        return states


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
