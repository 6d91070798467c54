"""A bounded queue with a thread of its own, for work that must never delay the audio.

    queue = BackgroundQueue("webhook", deliver, most=1000, report=say)
    queue.put(item)                     # never waits; a full queue drops its oldest item
    lost = queue.close(5.0)             # waits at most that long; returns how many items were not done

`deliver(item)` returns None when the item is done, or the seconds after which it is to be called again.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

FLUSH_PAUSE = 0.25  # s between attempts once the queue is closing
EVERY = 60.0  # s between two messages about the same kind of fault


class BackgroundQueue(Generic[Item]):
    """Calls `work` for one item after the other. The thread starts with the first item."""

    def __init__(
        self, name: str, work: Callable[[Item], float | None], most: int, report: Callable[[str], None]
    ) -> None:
        """`most`: items that wait; `report`: gets a line about an exception of `work`."""
        self._name, self._work, self._most, self._report = name, work, most, report
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy, self._closing = False, False
        self.dropped = 0  # items that a full queue has lost

    @property
    def closing(self) -> bool:
        """True once `close` was called: `work` should start nothing long."""
        return self._closing

    def put(self, item: Item) -> None:
        """Add an item; never waits for `work`."""
        with self._changed:
            if self._closing:
                self.dropped += 1
                return
            if len(self._items) == self._most:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, seconds: float) -> int:
        """End the thread; return how many items were dropped, or waited or were unfinished after that time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            lost, self.dropped = len(self._items) + self._busy + self.dropped, 0
            self._items.clear()
        return lost

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closing)
                if not self._items:
                    return
                item = self._items.popleft()
                self._busy = True
            try:
                pause = self._work(item)
            except Exception as error:  # a thread that ended here would lose every later item without a word
                pause = None
                self._report(f"{self._name}: {type(error).__name__}: {error}")
            with self._changed:
                self._busy = False
                if pause is None:
                    continue
                if len(self._items) < self._most:
                    self._items.appendleft(item)
                else:
                    self.dropped += 1  # it is the oldest
                self._changed.wait_for(lambda: self._closing, pause)
                if self._closing:
                    self._changed.wait(FLUSH_PAUSE)


class RateLimit:
    """Passes on the first of many messages, at most one in `every` seconds, and counts the others."""

    def __init__(self, say: Callable[[str], None], every: float = EVERY) -> None:
        self._say, self._every = say, every
        self._last, self._skipped = -math.inf, 0
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last < self._every:
                self._skipped += 1
                return
            more = f" ({self._skipped} more like this before it)" if self._skipped else ""
            self._last, self._skipped = now, 0
        self._say(text + more)
