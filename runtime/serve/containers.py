"""Decode a container that arrives in parts (a browser's WebM, Ogg, ...) with ffmpeg, and put its sound into a stream.

    feed = ContainerFeed(stream, rate=16_000)
    await feed.put(data)                         # waits while ffmpeg has enough
    feed.end()                                   # the stream ends when everything is decoded

ffmpeg is a child process with limits of its own (runtime.audio.ffmpeg). Threads move the bytes: its pipes may block.
"""

import asyncio
import os
import queue
import threading
import time
from contextlib import closing

from runtime.audio.containers import parse_wav
from runtime.audio.decode import check_rate
from runtime.audio.ffmpeg import READ, Ffmpeg
from runtime.audio.resampler import Resampler
from runtime.serve.streams import LiveStream
from runtime.support.errors import ShrikeError

PARTS = 8  # that wait for ffmpeg
POLL = 0.02  # s between checks whether one more fits


class ContainerFeed:
    """One client's container. Its LiveStream takes f32le, mono, at `rate`."""

    def __init__(self, stream: LiveStream, rate: int) -> None:
        self._stream, self._rate = stream, rate
        self._parts: queue.Queue[bytes] = queue.Queue()
        self._child: Ffmpeg | None = None
        self._over = False

    async def put(self, data: bytes) -> None:
        """Give the next part to ffmpeg, which starts with the first."""
        while self._parts.qsize() >= PARTS and not self._stream.closed:
            await asyncio.sleep(POLL)
        if not data:
            return
        if self._child is None:
            self._child = Ffmpeg(None, "the sound is a container")
            self._child.feed(data, self._parts.get)
            threading.Thread(target=self._decode, args=(self._child,), daemon=True).start()
        else:
            self._parts.put(data)

    def end(self) -> None:
        """End the container; a second call does nothing."""
        if self._child is None:
            self._stream.end()
        elif not self._over:
            self._parts.put(b"")
        self._over = True

    def abort(self) -> None:
        """End ffmpeg at once."""
        self.end()
        if self._child:
            self._child.kill()

    def _decode(self, child: Ffmpeg) -> None:
        """Read ffmpeg's output to its end, in a thread of its own."""
        problem = ""
        with closing(child):
            try:
                data, resampler = b"", None
                header = None
                while new := os.read(child.descriptor, READ):
                    data += new
                    if header is None:
                        if (header := parse_wav(data)) is None or header.pcm is None:
                            continue
                        check_rate(header.pcm.rate)
                        data = data[header.start :]
                        resampler = Resampler(header.pcm.rate, self._rate)
                    assert header.pcm and resampler
                    whole = len(data) // header.pcm.size * header.pcm.size
                    samples, _ = resampler.push(header.pcm.decode(data[:whole]))
                    data = data[whole:]
                    while not self._stream.live and self._stream.full and not self._stream.closed:
                        time.sleep(POLL)
                    if not self._stream.put(samples.astype("<f4").tobytes()):
                        return
                if resampler:
                    self._stream.put(resampler.flush().astype("<f4").tobytes())
                problem = child.problem() or ("" if resampler else "no sound in it")
            except ShrikeError as error:
                problem = str(error)
            finally:
                self._stream.end(problem, ("truncated",) if problem else ())
