"""A Conformer's block that does not read padding."""

from fairseq.modules.conformer_layer import ConformerWav2Vec2EncoderLayer
from torch import Tensor

from .padding import Valid, during


class ConformerBlock(ConformerWav2Vec2EncoderLayer):
    """fairseq's block, whose convolution and batch norm know what is padding: from its own
    argument, which is there in recomputation too."""

    def forward(self, x: Tensor, *args, self_attn_padding_mask=None, **others):
        """As fairseq's."""
        valid = None
        if self_attn_padding_mask is not None:
            valid = Valid((~self_attn_padding_mask).sum(1), {})
        with during(valid):
            return super().forward(
                x, *args, self_attn_padding_mask=self_attn_padding_mask, **others
            )
