"""Work on all cores: one function over many items, in processes that end with the one that gave them the work.

with closing(in_processes(compute, items, cores(), "read audio")) as results:
    for item, result in results:        # as they are finished; a fault in here, and the rest is not begun
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
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    doing: str,
    begin: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Generator[tuple[Item, Result], None, None]:
    """Every item and its result. `begin(*given)` is called once in each process; `doing` is what a process did that
    was ended from outside, for the error."""
    # spawn: a forked child of a process that already runs threads (BLAS, CUDA) can hang
    with ProcessPoolExecutor(min(processes, len(items)), get_context("spawn"), _begin, (begin, given)) as pool:
        try:
            waiting = {pool.submit(work, item): item for item in items}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool as error:
            raise ShrikeError(
                f"a process that {doing} was ended (out of memory?); what is finished is kept: run again to go on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    parent = parent_process()
    if parent is not None:  # one that is killed cannot end us, and its queue would be waited on for ever
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if begin is not None:
        begin(*given)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
