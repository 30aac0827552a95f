"""Any pre-trained encoder as a module that returns the hidden states of every layer.

Knows nothing of VARAN. To support another encoder, add one entry to `specs.py`.
"""

from .checkpoint import normalizes, read_checkpoint, read_pretrained
from .layers import Encoder, EncoderOutput
from .load import build_encoder, load_encoder, load_weights
