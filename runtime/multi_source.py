"""Run several sources at once: each has a session of its own, and an error of one ends that one alone.

    sources = MultiSource(batcher, stop, say)
    sources.add(source, session)                 # of the same batcher
    failed = sources.run()

A thread reads each source, because reading waits for a microphone or for the pace of a file. It is at most WAITING
blocks ahead of the loop, which takes the blocks that have come and batches the engine's calls.

    thread per source    block block >---.
    thread per source    block >----------+--> queue --> sessions, framers --> batched engine --> sessions
    thread per source    block block >---'
"""

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.multi_stream import StreamBatcher
from runtime.session import Session
from runtime.sources import Block, Source
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

WAITING = 2  # blocks of one source that may wait; a microphone's own queue holds, and counts, the rest
POLL = 0.1  # s between checks for the request to stop


class Listener:
    """One source with its session."""

    def __init__(self, source: Source, session: Session) -> None:
        self.source, self.session = source, session
        self.room = threading.BoundedSemaphore(WAITING)
        self.blocks: deque[Block] = deque()
        self.over = False  # no more blocks will come
        self.error: Exception | None = None  # why


Item = tuple[Listener, Block | None]  # None: the sound is over


class MultiSource:
    """Computes in the caller's thread; other threads only read."""

    def __init__(self, batcher: StreamBatcher, stop: Stop, say: Callable[[str], None]) -> None:
        self._batcher, self._stop, self._say = batcher, stop, say
        self._active: dict[Listener, None] = {}
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._failed = 0

    def add(self, source: Source, session: Session) -> None:
        self._active[Listener(source, session)] = None

    def run(self) -> int:
        """Run until all sources have ended or a stop is requested; return how many failed."""
        for listener in self._active:
            listener.session.begin(listener.source)
        for listener in self._active:
            threading.Thread(target=self._read, args=(listener,), daemon=True).start()
        while self._active and not self._stop.requested:
            self._collect()
            while busy := [listener for listener in self._active if listener.blocks]:
                for listener in busy:
                    self._take_block(listener)
                self._decode()
                if self._stop.requested:
                    break
            else:
                for listener in [listener for listener in self._active if listener.over]:
                    self._finish(listener)
        for listener in list(self._active):  # stopped before their end
            self._end(listener)
        return self._failed

    def _collect(self) -> None:
        """Wait for a block, and take all that have come."""
        with suppress(queue.Empty):
            listener, block = self._queue.get(timeout=POLL)
            while True:
                if block is None:
                    listener.over = True
                else:
                    listener.blocks.append(block)
                listener, block = self._queue.get_nowait()

    def _take_block(self, listener: Listener) -> None:
        block = listener.blocks.popleft()
        listener.room.release()
        with self._guarded(listener):
            listener.session.accept(block)

    def _decode(self) -> None:
        """Compute all windows that are due, and report their scores."""
        while ready := [listener for listener in self._active if listener.session.stream.ready]:
            self._batcher.decode_streams([listener.session.stream for listener in ready])
            for listener in ready:
                with self._guarded(listener):
                    listener.session.report()

    def _finish(self, listener: Listener) -> None:
        with self._guarded(listener):
            if listener.error:
                raise listener.error
            listener.session.complete()
        if listener in self._active:
            self._end(listener)

    @contextmanager
    def _guarded(self, listener: Listener) -> Iterator[None]:
        """Say an error of one source, and end that one."""
        try:
            yield
        except ShrikeError as error:
            self._failed += 1
            self._say(f"error: {listener.source.name}: {error}")
            self._end(listener)

    def _end(self, listener: Listener) -> None:
        del self._active[listener]
        listener.over = True
        listener.blocks.clear()
        try:
            listener.session.end()
        finally:
            listener.source.close()

    def _read(self, listener: Listener) -> None:
        """Read one source, in a thread of its own."""
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
    """Number sources of one name: call.wav, call.wav (2)."""
    seen = Counter[tuple[str, str | None]]()
    for source in sources:
        name = source.name, getattr(source, "channel", None)
        seen[name] += 1
        count = seen[name]
        if count > 1:
            source.name = f"{source.name} ({count})"
