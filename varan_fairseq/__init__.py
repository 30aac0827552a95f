"""VARAN (arXiv 2508.12061) for fairseq: `common.user_dir=varan_fairseq` registers its
models, criterions and task, and nothing else happens here."""

import logging
from typing import Optional

__version__ = "0.1.0"

# On import fairseq recommends a package for tasks that are not used here.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

try:
    import fairseq
except ModuleNotFoundError as error:
    if error.name != "fairseq":
        raise
    raise ModuleNotFoundError(
        "varan_fairseq is a plugin for fairseq, which is not installed here. Run: "
        'pip install "fairseq==0.12.2" "numpy<2" (Python 3.8 - 3.10, pip < 24.1) '
        'or: pip install "ve-fairseq==0.12.3" "hydra-core<1.4" (Python 3.11, 3.12)',
        name="fairseq",
    ) from None

from .runtime.pickles import allow_checkpoint_classes

allow_checkpoint_classes()

from . import criterions, models, tasks


def load(path: str, base: Optional[str] = None, device: Optional[str] = None):
    """A fine-tuned model, ready for Python users.

    path: a checkpoint that `fairseq-hydra-train` wrote with a model of ours, or the folder of
    an adapter. base: the pre-trained checkpoint of an adapter, or of a checkpoint that lacks
    its encoder's configuration. device: as torch names it; default: the GPU, if there is one.
    Returns `varan_fairseq.inference.recognizer.Recognizer` for `varan_ctc`,
    `varan_fairseq.inference.model.Classifier` for `varan_classification`. Checkpoints are
    pickles: only load those you trust. Raises ValueError or FileNotFoundError, naming the file.
    """
    from .finetuned.load import load_model
    from .inference.model import Classifier
    from .inference.recognizer import Recognizer

    model, cfg, task = load_model(path, base=base)
    interfaces = {"varan_ctc": Recognizer, "varan_classification": Classifier}
    return interfaces[cfg.model._name](model, cfg, task, device)
