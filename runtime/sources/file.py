"""Sound file as a source: as fast as possible, or in real time.

    source = FileSource("call.flac", rate=16_000, stop=stop, realtime=True)

runtime.audio.decode decodes it, so that a stream gets the samples of offline evaluation.
"""

import os
import time
from collections.abc import Iterator

from runtime.audio.decode import load
from runtime.audio.features import Samples
from runtime.sources import Block
from runtime.support.errors import AudioError, ShrikeError, printable
from runtime.support.shutdown import Stop

BLOCK = 8_000  # samples at a time, 0.5 s: short enough to stop quickly
PACE = 0.02  # s of sound in one block of --realtime, as a sound card delivers it


class FileSource:
    """Decodes the whole file when created; raises ShrikeError with its name if it cannot be used."""

    def __init__(self, path: str | os.PathLike[str], rate: int, stop: Stop, realtime: bool = False) -> None:
        self.name, self.live = printable(os.fspath(path)), realtime
        self._rate, self._stop = rate, stop
        try:
            clip = load(path, rate)
        except AudioError as error:
            raise ShrikeError(f"{self.name}: {error}") from error
        self.notes = clip.notes
        self._samples = clip.samples

    def __iter__(self) -> Iterator[Block]:
        return paced(self._samples, self._rate, self._stop, self.live)

    def close(self) -> None:
        self._samples = self._samples[:0]


def paced(samples: Samples, rate: int, stop: Stop, live: bool) -> Iterator[Block]:
    """Yield blocks of an array: as fast as they are taken, or in real time."""
    size = int(PACE * rate) if live else BLOCK
    began = time.monotonic()
    for start in range(0, len(samples), size):
        block = samples[start : start + size]
        if live:
            due = began + (start + len(block)) / rate
            stop.wait(due - time.monotonic())
            arrived = due
        else:
            arrived = time.monotonic()
        if stop.requested:
            return
        yield Block(block, arrived)
