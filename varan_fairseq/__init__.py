"""VARAN (arXiv 2508.12061) for fairseq: `common.user_dir=varan_fairseq` registers its
models, criterions and task, and nothing else happens here."""

import logging
from typing import Optional

__version__ = "0.1.0"

# On import fairseq recommends a package for tasks that are not used here.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

try:
    import fairseq  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fairseq":
        raise
    raise ModuleNotFoundError(
        "varan_fairseq is a plugin for fairseq, which is not installed here. Run: "
        'pip install "fairseq==0.12.2" "numpy<2" (Python 3.8 - 3.10, pip < 24.1) '
        'or: pip install "ve-fairseq==0.12.3" "hydra-core<1.4" (Python 3.11, 3.12)',
        name="fairseq",
    ) from None

from .pickles import allow_checkpoint_classes  # noqa: E402

allow_checkpoint_classes()

from . import criterions, models, tasks  # noqa: E402, F401


def load(path: str, base: Optional[str] = None, device: Optional[str] = None):
    """A fine-tuned model, ready for Python users.

    path: a checkpoint that `fairseq-hydra-train` wrote with a model of ours, or the folder of
    an adapter. base: the pre-trained checkpoint of an adapter, or of a checkpoint that lacks
    its encoder's configuration. device: as torch names it; default: the GPU, if there is one.
    Returns `varan_fairseq.decoding.recognizer.Recognizer` for `varan_ctc`,
    `varan_fairseq.decoding.inference.Classifier` for `varan_classification`. Checkpoints are
    pickles: only load those you trust. Raises ValueError or FileNotFoundError, naming the file.
    """
    from .decoding.finetuned import load_model
    from .decoding.inference import Classifier
    from .decoding.recognizer import Recognizer

    model, cfg, task = load_model(path, base=base)
    interfaces = {"varan_ctc": Recognizer, "varan_classification": Classifier}
    return interfaces[cfg.model._name](model, cfg, task, device)
