"""Decode a container that arrives in parts (a browser's WebM, Ogg, ...) with ffmpeg, and put its sound into a stream.

    feed = ContainerFeed(stream, rate=16_000)
    await feed.put(data)                         # waits while ffmpeg has enough
    feed.end()                                   # the stream ends when everything is decoded

ffmpeg is a child process with limits of its own (runtime.audio.ffmpeg). Threads move the bytes: its pipes may block.
"""

import asyncio
import queue
import threading
import time
from contextlib import closing

from runtime.audio.ffmpeg import Ffmpeg, FfmpegSound
from runtime.audio.resampler import Resampler
from runtime.serve.streams import LiveStream
from runtime.support.errors import ShrikeError

PARTS = 8  # that wait for ffmpeg
POLL = 0.02  # s between checks whether one more fits
BLOCKS = 0.02, 0.5  # s of sound decoded at once: live, the length of an Opus packet; of a file
REASON = "the sound is a container"  # why ffmpeg is needed


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
            self._child = Ffmpeg(None, REASON)
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
        problem, stream = "", self._stream
        try:
            with closing(FfmpegSound(child, REASON)) as sound:
                resampler = Resampler(sound.samplerate, self._rate)
                size = round(BLOCKS[0 if stream.live else 1] * sound.samplerate)
                while len(block := sound.read(size)):
                    samples, _ = resampler.push(block)
                    while not stream.live and stream.full and not stream.closed:
                        time.sleep(POLL)
                    if not stream.put(samples.astype("<f4").tobytes()):
                        return
                stream.put(resampler.flush().astype("<f4").tobytes())
                problem = sound.problem()
        except ShrikeError as error:
            problem = str(error)
        finally:
            stream.end(problem, ("truncated",) if problem else ())
