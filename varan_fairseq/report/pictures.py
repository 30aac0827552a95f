"""Pictures that tools write."""

import logging
from typing import Any, Callable

from ..runtime.files import written

logger = logging.getLogger(__name__)

MARK = b"varan_fairseq"  # in the first bytes of every picture


def pyplot() -> Any:
    """matplotlib without a display; ModuleNotFoundError says what to install."""
    # fairseq's import lets all libraries log their DEBUG lines
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # a $ in a label is one
    from matplotlib import pyplot as plt

    return plt


def try_picture(path: str, draw: Callable[[Any], Any]) -> None:
    """`save_picture` beside numbers, which are what counts: a picture that fails is a warning."""
    try:
        save_picture(path, draw)
    except (ValueError, RuntimeError, MemoryError) as error:
        logger.warning("no %s: %s", path, error)


def save_picture(path: str, draw: Callable[[Any], Any]) -> None:
    """draw: matplotlib's pyplot -> a figure. Whole or not at all."""
    plt = pyplot()
    figure = draw(plt)
    with written(path) as temporary:
        about = {"Software": MARK.decode()}
        figure.savefig(temporary, dpi=120, format="png", metadata=about)
    plt.close(figure)
