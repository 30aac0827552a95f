"""fairseq models: thin, they wire the encoder to an aggregation."""

from . import varan_classification, varan_ctc
