"""What any program needs: files, progress, processes, pickles, and what differs between
fairseqs."""

import importlib.util


def require_fairseq() -> None:
    """Raises ModuleNotFoundError that says what to install where there is no fairseq."""
    try:
        missing = importlib.util.find_spec("fairseq") is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise ModuleNotFoundError(
            "varan_fairseq is a plugin for fairseq, which is not installed here. Run: "
            'pip install "fairseq==0.12.2" "numpy<2" (Python 3.8 - 3.10, pip < 24.1) '
            'or: pip install "ve-fairseq==0.12.3" "hydra-core<1.4" (Python 3.11, 3.12)',
            name="fairseq",
        )
