"""fairseq tasks: thin, they read data."""

from ..runtime import require_fairseq

require_fairseq()

from .. import criterions  # noqa: E402  (of a user dir, fairseq imports tasks and models alone)
from . import utterance_classification, utterance_regression  # noqa: E402
