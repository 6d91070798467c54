"""One function over many items in several processes, which end with their parent.

with closing(in_processes(compute, items, cores(), "read audio")) as results:
    for item, result in results:        # in order of completion; an exception in here cancels the rest
        ...
"""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from runtime.support.errors import ShrikeError

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    doing: str,
    begin: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Generator[tuple[Item, Result], None, None]:
    """Yield every item and its result. `begin(*given)` runs once in each process; `doing` describes the work in the
    error if a process is killed."""
    # spawn: a forked child of a process that already runs threads (BLAS, CUDA) can hang
    with ProcessPoolExecutor(min(processes, len(items)), get_context("spawn"), _begin, (begin, given)) as pool:
        try:
            waiting = {pool.submit(work, item): item for item in items}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool as error:
            raise ShrikeError(
                f"a process that {doing} was killed (out of memory?); run again to continue with the unfinished items"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    parent = parent_process()
    if parent is not None:  # a killed parent cannot end this process, which would wait for work forever
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if begin is not None:
        begin(*given)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
