"""One function over many items in several processes, each of which opens what it needs once.

for item, result in closing(spread(scorer.open, chunks, jobs=2, doing="scored")):      # in order of completion
    ...
"""

import signal
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from train.data.processes import in_processes

Item = TypeVar("Item")
Result = TypeVar("Result")

_opened = list[Callable[[Any], Any]]()  # the function of this process


def spread(
    open_work: Callable[[], Callable[[Item], Result]], items: Sequence[Item], jobs: int, doing: str
) -> Generator[tuple[Item, Result], None, None]:
    """Yield every item and its result; one job works in this process. `open_work` returns the function of an item."""
    if jobs > 1:
        yield from in_processes(_run, items, jobs, doing, _begin, (open_work,))
        return
    work = open_work()
    for item in items:
        yield item, work(item)


def _begin(open_work: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _opened[:] = [open_work()]


def _run(item: Any) -> Any:
    return _opened[0](item)
