"""Pictures that tools write."""

from typing import Any, Callable

from ..runtime.files import written


def pyplot() -> Any:
    """matplotlib without a display; ModuleNotFoundError says what to install."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save_picture(path: str, draw: Callable[[Any], Any]) -> None:
    """draw: matplotlib's pyplot -> a figure. Whole or not at all."""
    plt = pyplot()
    figure = draw(plt)
    with written(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
