"""Run several sources at once: each has a session of its own, and an error of one ends that one alone.

    sources = MultiSource(batcher, stop, say)
    sources.add(source, session)                 # of the same batcher
    failed = sources.run()

A thread reads each source, because reading waits for a microphone or for the pace of a file. It is at most WAITING
blocks ahead of the loop, which takes one block of each source and batches the engine's calls.

    thread per source    block block >---.
    thread per source    block >----------+--> sessions, framers --> batched engine --> sessions
    thread per source    block block >---'
"""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.multi_stream import StreamBatcher
from runtime.session import Session
from runtime.sources import Block, Source
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

WAITING = 2  # blocks of one source that may wait; a microphone's own queue holds, and counts, the rest
POLL = 0.1  # s between checks for the request to stop
JOIN = 1.0  # s for a reader to leave a source that is being closed


class Listener:
    """One source with its session."""

    def __init__(self, source: Source, session: Session) -> None:
        self.source, self.session = source, session
        self.blocks: queue.Queue[Block | Exception | None] = queue.Queue(WAITING)  # None: the sound is over
        self.ended = False
        self.thread: threading.Thread | None = None


class MultiSource:
    """Computes in the caller's thread; other threads only read."""

    def __init__(self, batcher: StreamBatcher, stop: Stop, say: Callable[[str], None]) -> None:
        self._batcher, self._stop, self._say = batcher, stop, say
        self._active: list[Listener] = []
        self._arrival = threading.Event()
        self._failed = 0

    def add(self, source: Source, session: Session) -> None:
        self._active.append(Listener(source, session))

    def run(self) -> int:
        """Run until all sources have ended or a stop is requested; return how many failed."""
        for listener in self._active:
            listener.session.begin(listener.source)
        for listener in self._active:
            listener.thread = threading.Thread(target=self._read, args=(listener,), daemon=True)
            listener.thread.start()
        while self._active and not self._stop.requested:
            self._arrival.wait(POLL)
            self._arrival.clear()
            while not self._stop.requested and [one for one in [*self._active] if self._take(one)]:
                self._decode()
        for listener in [*self._active]:  # stopped before their end
            self._end(listener)
        return self._failed

    def _take(self, listener: Listener) -> bool:
        """Give the next block of a source to its session, and finish it after its last; False if none has come."""
        try:
            block = listener.blocks.get_nowait()
        except queue.Empty:
            return False
        with self._guarded(listener):
            if isinstance(block, Exception):
                raise block
            if block is not None:
                listener.session.accept(block)
                return True
            listener.session.complete()
        if not listener.ended:
            self._end(listener)
        return True

    def _decode(self) -> None:
        """Compute all windows that are due, and report their scores."""
        while ready := [listener for listener in self._active if listener.session.stream.ready]:
            self._batcher.decode_streams([listener.session.stream for listener in ready])
            for listener in ready:
                with self._guarded(listener):
                    listener.session.report()

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
        self._active.remove(listener)
        listener.ended = True
        try:
            listener.session.end()
        finally:
            if listener.thread:
                listener.thread.join(JOIN)  # a file that is closed while it is read crashes the decoder
            listener.source.close()

    def _read(self, listener: Listener) -> None:
        """Read one source, in a thread of its own."""
        try:
            for block in listener.source:
                if not self._put(listener, block):
                    return
            self._put(listener, None)
        except Exception as error:
            self._put(listener, error)

    def _put(self, listener: Listener, block: Block | Exception | None) -> bool:
        """Wait until the block has room; False if nobody will take it."""
        while not (self._stop.requested or listener.ended):
            with suppress(queue.Full):
                listener.blocks.put(block, timeout=POLL)
                self._arrival.set()
                return True
        return False


def number_duplicates(sources: list[Source]) -> None:
    """Number sources of one name: call.wav, call.wav (2)."""
    seen = Counter[tuple[str, str | None]]()
    for source in sources:
        name = source.name, getattr(source, "channel", None)
        seen[name] += 1
        count = seen[name]
        if count > 1:
            source.name = f"{source.name} ({count})"
