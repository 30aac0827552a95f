"""fairseq criterions: thin, they call the method's objective, log, and count errors."""

from . import varan_classification, varan_ctc, varan_regression
