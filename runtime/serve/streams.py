"""Live streams of many clients through one batcher, in a thread of its own.

    batcher = LiveBatcher(model, VerdictOptions(), metrics)
    stream = batcher.open("call 7", PcmFormat("s16le", 16_000, 1), live=True, emit=queue.append)
    stream.put(data)                             # from any thread; never waits
    stream.end()                                 # the summary, then emit(None)

    client  bytes > BlockQueue (2 s; oldest dropped) >--.
    client  bytes > BlockQueue ------------------------- +-> sessions, framers --> batched engine --> emit(line)
    client  bytes > BlockQueue >------------------------'

In each round every stream that has sound gives one piece of at most PIECE seconds, so no client delays another by more
than a round. A stream of a file (`live` false) loses nothing: its client waits while `full`.
"""

import json
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from runtime.audio.containers import PcmFormat
from runtime.audio.resampler import Resampler
from runtime.engines.model_loader import LoadedModel
from runtime.multi_stream import StreamBatcher
from runtime.serve.metrics import Metrics, StreamCounter
from runtime.session import Session, VerdictOptions
from runtime.sinks.jsonl import SCHEMA, JsonLines
from runtime.sources import Block
from runtime.sources.microphone import DROPPED, QUEUED, BlockQueue, Raw
from runtime.support.errors import ShrikeError
from runtime.support.wall_clock import utc

PIECE = 0.1  # s of sound that a stream contributes to one round
GATHER = 0.02  # s in which sound is collected: larger pieces and batches halve the cost of a stream

Emit = Callable[[str | None], None]  # a JSON line; None: nothing follows


def error_line(text: str) -> str:
    """Return the JSON line of an error that ends a stream."""
    return json.dumps({"v": SCHEMA, "type": "error", "at": utc(), "text": text})


class _Lines:
    """File-like end of JsonLines."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def write(self, line: str) -> int:
        self._emit(line.rstrip("\n"))
        return len(line)

    def flush(self) -> None:
        """Do nothing: every line was sent."""


class LiveStream:
    """One client's sound, by LiveBatcher.open."""

    channel = None

    def __init__(
        self, name: str, pcm: PcmFormat, live: bool, emit: Emit, wake: Callable[["LiveStream"], None], most: float
    ) -> None:
        """`most`: s of sound after which the stream ends."""
        self.name, self.live, self._pcm, self._emit, self._wake = name, live, pcm, emit, wake
        self._queue = BlockQueue(round(QUEUED * pcm.rate), round(DROPPED * pcm.rate))
        self._piece, self._left = round(PIECE * pcm.rate), most * pcm.rate
        self._rest = b""
        self._resampler: Resampler | None = None
        self._held: tuple[Raw, float, float, int] | None = None  # taken from the queue, for the next piece
        self._last: Block | None = None  # after the last sound
        self.aborted = self.closed = self.over = False  # over: the last sound was given to the session

    # ---- any thread

    @property
    def full(self) -> bool:
        """True while a client that may wait should."""
        return self._queue.held >= QUEUED / 2 * self._pcm.rate

    def parts(self, data: bytes) -> list[bytes]:
        """Split a message into parts that find room in the queue where it is not `full`."""
        size = int(QUEUED / 4 * self._pcm.rate) * self._pcm.size
        return [data[start : start + size] for start in range(0, len(data), size)]

    def put(self, data: bytes) -> bool:
        """Queue samples as they came, in parts of any size. False once the longest duration is reached."""
        data = self._rest + data
        whole = len(data) // self._pcm.size * self._pcm.size
        self._rest = data[whole:]
        sound = self._pcm.decode(data[:whole])[: max(0, int(self._left))]
        self._left -= len(sound)
        for start in range(0, len(sound), self._piece):
            self._queue.put(sound[start : start + self._piece])
        self._wake(self)
        return self._left > 0

    def end(self, note: str = "", flags: tuple[str, ...] = ()) -> None:
        """End after the sound that is queued; the summary follows."""
        if self._rest and not note:
            note = f"the last {len(self._rest)} bytes are not a whole sample"
        self._last = Block(np.empty(0, np.float32), time.monotonic(), note=note, flags=flags)
        self._wake(self)

    def abort(self) -> None:
        """End at once: the client has left."""
        self.aborted = True
        self._wake(self)

    def send(self, line: str | None) -> None:
        self._emit(line)

    # ---- the batcher's thread

    def next(self, rate: int) -> Block | None:
        """Return what is queued, at most a piece, at the model's rate; None if nothing is."""
        last = self._last  # read first: nothing is queued after it
        if self._resampler is None:
            self._resampler = Resampler(self._pcm.rate, rate)
        found = self._held or self._queue.get(0)
        if found is None:
            if last is None or self.over:
                return None
            self.over = True
            return replace(last, samples=self._resampler.flush())
        block, arrived, _, lost = found
        parts, samples = [block], len(block)
        while (following := self._queue.get(0)) and not following[3] and samples < self._piece:
            parts.append(following[0])
            samples, arrived = samples + len(following[0]), following[1]
        self._held = following
        if lost:
            self._resampler.reset()
        mono, invalid = self._resampler.push(np.concatenate(parts))
        return Block(mono, arrived, lost / self._pcm.rate, invalid, flags=self._resampler.flags)


class LiveBatcher:
    """Owns the engine's only thread; `close` ends it."""

    def __init__(self, model: LoadedModel, verdicts: VerdictOptions, metrics: Metrics, most: float) -> None:
        """`most`: s of sound after which a stream ends. Raises for invalid options."""
        self.model, self._verdicts, self._metrics, self._most = model, verdicts, metrics, most
        self._batcher = StreamBatcher(model.engine, model.card.frontend, verdicts.step)
        Session(model, [], verdicts, self._batcher)  # checks the options
        self._rate = model.card.frontend.rate
        self._arrivals: queue.SimpleQueue[LiveStream | None] = queue.SimpleQueue()  # None: close
        self._open: dict[LiveStream, Session] = {}
        self.broken = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @property
    def available(self) -> bool:
        """False while the server that computes is away."""
        return getattr(self.model.engine, "available", True)

    def open(self, name: str, pcm: PcmFormat, live: bool, emit: Emit) -> LiveStream:
        """Start a stream; `emit` is called from the batcher's thread."""
        stream = LiveStream(name, pcm, live, emit, self._arrivals.put, self._most)
        self._arrivals.put(stream)
        return stream

    def close(self) -> None:
        """End the thread; streams get no summary."""
        self._arrivals.put(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            while self._round():
                pass
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            self.broken = True
            for stream in self._open:
                stream.send(None)

    def _round(self) -> bool:
        """Wait for sound, and score until none waits. False: closed."""
        busy = dict.fromkeys([self._arrivals.get()])
        time.sleep(GATHER)
        began = time.thread_time()
        while busy:
            while not self._arrivals.empty():
                busy[self._arrivals.get_nowait()] = None
            if None in busy:
                return False
            for stream in [stream for stream in busy if stream and not self._take(stream)]:
                del busy[stream]
            found = [(stream, self._open[stream]) for stream in busy if stream and stream in self._open]
            while ready := [one for one in found if one[1].stream.ready]:
                self._batcher.decode_streams([session.stream for _, session in ready])
                for stream, session in ready:
                    with self._guarded(stream):
                        session.report()
        self._metrics.busy.inc(time.thread_time() - began)
        return True

    def _take(self, stream: LiveStream) -> bool:
        """Give the next piece of a stream to its framer; False if none waits, or the stream has ended."""
        if stream.closed:
            return False
        with self._guarded(stream):
            session = self._open.get(stream) or self._begin(stream)
            if stream.aborted:
                self._end(stream)
            elif block := stream.next(self._rate):
                session.accept(block)
                return True
            elif stream.over:
                session.complete()
                self._end(stream)
        return False

    def _begin(self, stream: LiveStream) -> Session:
        sinks = [JsonLines(_Lines(stream.send)), StreamCounter(self._metrics)]  # type: ignore[arg-type]
        self._open[stream] = session = Session(self.model, sinks, self._verdicts, self._batcher)
        session.begin(stream)
        return session

    @contextmanager
    def _guarded(self, stream: LiveStream) -> Iterator[None]:
        """Send an error of one stream to its client, and end that one."""
        try:
            yield
        except ShrikeError as error:
            stream.send(error_line(str(error)))
            self._end(stream)

    def _end(self, stream: LiveStream) -> None:
        if stream.closed:
            return
        stream.closed = True
        if session := self._open.pop(stream, None):
            session.end()
        stream.send(None)
