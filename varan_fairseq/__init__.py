"""VARAN (arXiv 2508.12061) for fairseq.

`common.user_dir=varan_fairseq` makes fairseq import `tasks/` and `models/` of this folder, which
register everything. Importing the package itself loads neither torch nor fairseq.
"""

import logging
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

if TYPE_CHECKING:
    from .inference.model import Classifier, Regressor
    from .inference.recognizer import Recognizer

__version__ = "0.1.0"

# On import fairseq recommends a package for tasks that are not used here.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)


def load(
    path: str, base: Optional[str] = None, device: Optional[str] = None
) -> "Union[Recognizer, Classifier, Regressor]":
    """A fine-tuned model, ready for Python users. Checkpoints are pickles: only load those you
    trust.

    Args:
        path: a checkpoint that `fairseq-hydra-train` wrote with a model of ours, or the folder of
            an adapter.
        base: the pre-trained checkpoint of an adapter, or of a checkpoint that lacks its encoder's
            configuration.
        device: as torch names it; default: the GPU, if there is one.

    Returns:
        `inference.recognizer.Recognizer` for `varan_ctc`, `inference.model.Classifier` for
        `varan_classification`, `inference.model.Regressor` for `varan_regression`.

    Raises:
        ValueError, FileNotFoundError: naming the file.
    """
    from .finetuned.load import load_model
    from .inference.model import Classifier, Regressor
    from .inference.recognizer import Recognizer

    model, cfg, task = load_model(path, base=base)
    interfaces = {
        "varan_ctc": Recognizer,
        "varan_classification": Classifier,
        "varan_regression": Regressor,
    }
    return interfaces[cfg.model._name](model, cfg, task, device)


def evaluate(checkpoint: str, data: str, subset: str = "test", **options: Any) -> Dict[str, Any]:
    """Runs a fine-tuned model over a labelled split and scores it, as `varan-infer` does.

    Args:
        checkpoint: as `load` takes it, of `varan_ctc`.
        data: folder with the manifests.
        subset: name of the manifest.
        options: see `decoding.evaluate.evaluate`.

    Returns:
        The contents of `asr.json`: WER with its interval, UER, every setting.

    Raises:
        ValueError, FileNotFoundError: naming the file or option.
    """
    from .decoding.evaluate import evaluate

    return evaluate(checkpoint, data, subset, **options)
