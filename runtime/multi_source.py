"""Several sources at once, through one pool: each has its own session, and a fault of one ends that one alone.

    together = MultiSource(pool, stop, say)
    for source in sources:
        together.add(source, session)
    failed = together.run()

Every source is read by a thread of its own, because reading waits: for a microphone, or for the pace of a file. A
thread is at most WAITING blocks ahead of the one loop that computes, which takes whatever has come and runs the pool
for all of it.

    thread per source    block block >---.
    thread per source    block >----------+--> queue --> sessions --> pool.run() --> verdicts
    thread per source    block block >---'               '--<--- until no block is left --<--'
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from runtime.multi_stream import StreamBatcher
from runtime.session import Session
from runtime.sources import Block, Source
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

WAITING = 2  # blocks of one source that may wait; a microphone's own queue keeps, and counts, what does not fit
POLL = 0.1  # s between looks at the request to stop


class Listener:
    """One source with its session."""

    def __init__(self, source: Source, session: Session) -> None:
        self.source, self.session = source, session
        self.room = threading.BoundedSemaphore(WAITING)
        self.blocks: deque[Block] = deque()
        self.work: Iterator[None] | None = None  # the block that is being taken
        self.over = False  # no more blocks will come
        self.error: Exception | None = None  # why


Item = tuple[Listener, Block | None]  # None: the sound is over


class MultiSource:
    """Runs in one thread; its readers only read."""

    def __init__(self, pool: StreamBatcher, stop: Stop, say: Callable[[str], None]) -> None:
        self._pool, self._stop, self._say = pool, stop, say
        self._active: dict[Listener, None] = {}
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._failed = 0

    def add(self, source: Source, session: Session) -> None:
        self._active[Listener(source, session)] = None

    def run(self) -> int:
        """Until all have ended or a stop is requested; how many ended with a fault."""
        for listener in self._active:
            listener.session.begin(listener.source)
        for listener in self._active:
            threading.Thread(target=self._read, args=(listener,), daemon=True).start()
        while self._active and not self._stop.requested:
            self._collect()
            while busy := [listener for listener in self._active if listener.work or listener.blocks]:
                for listener in busy:
                    self._guarded(listener, self._advance)
                self._pool.run()
                if self._stop.requested:
                    break
            else:
                for listener in [listener for listener in self._active if listener.over]:
                    self._guarded(listener, self._end)
        for listener in list(self._active):  # stopped before their end
            listener.session.end(complete=False)
            self._leave(listener)
        return self._failed

    def _collect(self) -> None:
        """Wait until something has come, and take all that has."""
        with suppress(queue.Empty):
            listener, block = self._queue.get(timeout=POLL)
            while True:
                if block is None:
                    listener.over = True
                else:
                    listener.blocks.append(block)
                listener, block = self._queue.get_nowait()

    def _guarded(self, listener: Listener, act: Callable[[Listener], None]) -> None:
        """What goes wrong with one stream is said, and ends it; the others hear nothing of it."""
        try:
            act(listener)
        except ShrikeError as error:
            self._failed += 1
            self._say(f"error: {listener.source.name}: {error}")
            listener.session.end(complete=False)
            self._leave(listener)

    def _end(self, listener: Listener) -> None:
        if listener.error:
            raise listener.error
        listener.session.end()
        self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        listener.over = True
        listener.blocks.clear()
        self._active.pop(listener, None)
        listener.session.abandon()
        listener.source.close()

    @staticmethod
    def _advance(listener: Listener) -> None:
        """Its blocks, up to where the pool must run."""
        while listener.work or listener.blocks:
            if listener.work is None:
                listener.work = listener.session.take(listener.blocks.popleft())
                listener.room.release()
            for _ in listener.work:
                return
            listener.work = None

    def _read(self, listener: Listener) -> None:
        """The thread of one source."""
        try:
            for block in listener.source:
                while not listener.room.acquire(timeout=POLL):
                    if self._stop.requested or listener.over:
                        return
                self._queue.put((listener, block))
        except Exception as error:
            listener.error = error
        self._queue.put((listener, None))


def number_duplicates(sources: list[Source]) -> None:
    """Two sources of one name get numbers: call.wav, call.wav (2)."""
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.name] = count = seen.get(source.name, 0) + 1
        if count > 1:
            source.name = f"{source.name} ({count})"
