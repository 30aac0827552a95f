"""Work in several processes: items shared out to forked ones, and what one rank does for all."""

import multiprocessing
import multiprocessing.connection
import os
import sys
from typing import Any, Callable, Iterator, List, Sequence, Tuple, TypeVar

Result = TypeVar("Result")


def in_processes(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int
) -> Iterator[Tuple[int, Any]]:
    """(index, function(item)) as they are done. With one job, or where processes cannot be
    forked safely, in this one. What the function raises is raised here; no process outlives
    the iteration, or this process."""
    jobs = min(jobs, len(items)) if sys.platform == "linux" else 1
    if jobs <= 1:
        for index, item in enumerate(items):
            yield index, function(item)
        return
    context, parent = multiprocessing.get_context("fork"), os.getpid()
    readers: List[Any] = []
    processes = []
    try:
        for job in range(jobs):
            reader, writer = context.Pipe(duplex=False)
            readers.append(reader)
            arguments = (function, items, range(job, len(items), jobs), writer, readers, parent)
            processes.append(context.Process(target=_work, args=arguments, daemon=True))
            processes[-1].start()
            writer.close()
        left = list(readers)
        while left:
            ready: List[Any] = list(multiprocessing.connection.wait(left))
            for reader in ready:
                try:
                    index, result, error = reader.recv()
                except EOFError:
                    left.remove(reader)
                    _check_ended(processes[readers.index(reader)])
                    continue
                if error is not None:
                    raise error
                yield index, result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(function, items, indices, writer, readers, parent) -> None:
    for reader in readers:
        reader.close()
    for index in indices:
        if os.getppid() != parent:
            return
        try:
            message: Any = index, function(items[index]), None
        except KeyboardInterrupt:
            return
        except Exception as error:
            message = index, None, error
        writer.send(message)
    writer.close()


def _check_ended(process: Any) -> None:
    process.join()
    if process.exitcode:
        raise OSError(
            f"a process of the search ended with exit code {process.exitcode} (killed, or out of "
            "memory): give it fewer --jobs"
        )


def on_first_rank(work: Callable[[], Result]) -> Result:
    """What `work` returns, or the ValueError or OSError it raises, in every process; only the
    first one works. Every process has to call it. The result is pickled between them."""
    import torch.distributed as dist  # slow to import, and only training has ranks

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return work()
    result: Any = None
    error: Any = None
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
