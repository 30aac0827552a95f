"""Work that one process of a distributed run does for all."""

from typing import Callable, TypeVar

import torch.distributed as dist

Result = TypeVar("Result")


def on_first_rank(work: Callable[[], Result]) -> Result:
    """What `work` returns, or the ValueError or OSError it raises, in every process; only the
    first one works. Every process has to call it. The result is pickled between them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return work()
    result = error = None
    if dist.get_rank() == 0:
        try:
            result = work()
        except (ValueError, OSError) as caught:
            error = (type(caught), str(caught))
    box = [(result, error)]
    dist.broadcast_object_list(box, src=0)
    result, error = box[0]
    if error is not None:
        kind, text = error
        raise kind(text)
    return result
