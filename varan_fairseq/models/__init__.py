"""fairseq models: thin, they wire the encoder to an aggregation. Importing this registers all that
the plugin adds to fairseq: models, tasks and criterions."""

from ..runtime import require_fairseq

require_fairseq()

from ..runtime.pickles import allow_checkpoint_classes  # noqa: E402
from . import varan_classification, varan_ctc, varan_regression  # noqa: E402

allow_checkpoint_classes()
