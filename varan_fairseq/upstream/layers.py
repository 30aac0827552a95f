"""The hidden states of every block, under one contract for all encoders."""

import contextlib
import threading
from dataclasses import dataclass
from typing import Any, List, Optional

import torch
from torch import Tensor, nn

from .depth import check_depth
from .half import mend_convolutions
from .padding import Valid, ValidBatchNorm, ValidGroupNorm, during, silence_padding
from .record import Record, record_blocks
from .specs import EncoderSpec, count_frames, hop, receptive_field


@dataclass(frozen=True)
class EncoderOutput:
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
    the model without a graph for so many updates. mask_group_norm: leave padding out of the
    statistics of the feature encoder's group norm (fairseq does not).

    Threads may share one: what a forward pass learns of its batch is its thread's alone.
    """

    def __init__(
        self,
        w2v_model: nn.Module,
        spec: EncoderSpec,
        *,
        apply_mask: bool = False,
        freeze_finetune_updates: int = 0,
        mask_group_norm: bool = True,
    ):
        super().__init__()
        self.w2v_model = w2v_model
        self.spec = spec
        self.apply_mask = apply_mask
        self.freeze_finetune_updates = freeze_finetune_updates
        self.frozen = False
        self.num_updates = 0
        self.num_layers = len(spec.blocks(w2v_model))
        self.dim = spec.dim(w2v_model)
        self.raw_states = spec.raw_states(w2v_model)
        self.receptive_field = receptive_field(self._features)
        self.hop = hop(self._features)
        self.group_norms = []
        if mask_group_norm:
            self.group_norms = _become(self._features, nn.GroupNorm, ValidGroupNorm)
        _become(w2v_model, nn.BatchNorm1d, ValidBatchNorm)
        for convolution in spec.convolutions(w2v_model):
            convolution.register_forward_pre_hook(silence_padding)
        record_blocks(w2v_model, spec)

    def keep_lowest(self, layers: int, norm: Optional[nn.Module]) -> None:
        """Drops the blocks above the lowest `layers`. norm: the LayerNorm that read the block which
        is now the last one; its weights become the encoder's own. None: the encoder has none.
        Raises ValueError, with the range that is possible, for another number."""
        upper: Any = self.w2v_model.get_submodule(self.spec.upper.rstrip("."))
        below = self.num_layers - len(upper)
        check_depth(layers, below + 1, self.num_layers)
        del upper[layers - below :]
        self.num_layers = layers
        final: Any = self.spec.final_norm(self.w2v_model)
        if norm is not None:
            final.load_state_dict(norm.state_dict())

    def freeze(self) -> None:
        """From now on the model runs without a graph, and as in evaluation, while training
        too: no dropout, no layerdrop. Masking, if asked for, continues."""
        self.frozen = True
        self.w2v_model.requires_grad_(False).eval()

    def _apply(self, *args, **kwargs) -> "Encoder":
        super()._apply(*args, **kwargs)
        mend_convolutions(self.w2v_model)
        return self

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.frozen:
            self.w2v_model.eval()
        return self

    def set_num_updates(self, num_updates: int) -> None:
        self.num_updates = num_updates

    def forward(self, source: Tensor, padding_mask: Optional[Tensor]) -> EncoderOutput:
        """source: [B, samples] waveform. padding_mask: [B, samples] bool or None. Raises
        ValueError if the longest utterance is too short for a frame."""
        if source.shape[1] < self.receptive_field:
            raise ValueError(
                f"{source.shape[1]} samples are too short: {self.spec.title} makes its first frame "
                f"of {self.receptive_field}"
            )
        frozen = self.frozen or self.num_updates < self.freeze_finetune_updates
        record = Record(self.w2v_model, self.spec)
        with torch.no_grad() if frozen else contextlib.nullcontext():
            with self._alone(), during(self.valid(source, padding_mask)), record:
                output, padding_mask = self.spec.extract(
                    self.w2v_model, source, padding_mask, self.apply_mask and self.training
                )
            states = record.states(output)
        if padding_mask is None:
            lengths = torch.full((len(output),), output.shape[1], device=output.device)
        else:
            lengths = (~padding_mask).sum(1)
        return EncoderOutput(states, output.transpose(0, 1), padding_mask, lengths)

    def frames(self, samples: Tensor) -> Tensor:
        """Frames of utterances with so many samples, both [N] long."""
        return count_frames(self._features, samples)

    def _alone(self):
        return _ONE_AT_A_TIME if self.spec.one_at_a_time else contextlib.nullcontext()

    @property
    def _features(self) -> nn.Module:
        """The feature encoder."""
        return self.w2v_model.get_submodule(self.spec.features.rstrip("."))

    def valid(self, source: Tensor, padding_mask: Optional[Tensor]) -> Valid:
        """For what would otherwise read padding: the batch's, and frames that the model adds
        to reach a multiple. source, padding_mask: of `forward`."""
        if padding_mask is None:
            samples = source.new_full((len(source),), source.shape[1], dtype=torch.long)
        else:
            samples = (~padding_mask).sum(1)
        features = self._features
        norms = [] if padding_mask is None else self.group_norms
        inside = {norm: count_frames(features, samples, norm) for norm in norms}
        return Valid(self.frames(samples), inside)


# For the kinds that threads cannot run at once.
_ONE_AT_A_TIME = threading.RLock()


def _become(module: nn.Module, old: type, new: type) -> List[nn.Module]:
    """Makes every part of class `old` one of class `new`, with its weights."""
    norms = [child for child in module.modules() if isinstance(child, old)]
    for norm in norms:
        norm.__class__ = new
    return norms
