"""A function over items in forked processes, which share what was loaded before."""

import multiprocessing
import multiprocessing.connection
import os
import sys
from typing import Any, Callable, Iterator, List, Sequence, Tuple


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
            for reader in multiprocessing.connection.wait(left):
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
            message = index, function(items[index]), None
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
