"""Long work shows that it moves: a bar in a terminal, a line now and then in a log."""

import logging
import sys
import time
from typing import Callable, Iterable, Iterator, Optional, TypeVar

logger = logging.getLogger(__name__)

EVERY = 30  # seconds between lines
_Item = TypeVar("_Item")


def progress(
    items: Iterable[_Item],
    what: str,
    total: Optional[float] = None,
    size: Callable[[_Item], float] = lambda item: 1,
    unit: str = "",
) -> Iterator[_Item]:
    """Yields the items. total: of their sizes, if it is known."""
    if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False) as bar:
            for item in items:
                yield item
                bar.update(size(item))
        return
    start = last_line = time.time()
    done = 0.0
    for item in items:
        yield item
        done += size(item)
        now = time.time()
        if now - last_line >= EVERY:
            last_line = now
            logger.info("%s: %s", what, _line(done, total, now - start, unit))


def _line(done: float, total: Optional[float], seconds: float, unit: str) -> str:
    if not total:
        return f"{done:.0f} {unit} in {seconds:.0f} s"
    left = seconds * (total - done) / done if done else float("nan")
    return f"{done:.0f} of {total:.0f} {unit}, {left:.0f} s left"
