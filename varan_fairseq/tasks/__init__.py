"""fairseq tasks: thin, they read data."""

from . import utterance_classification
