"""Sound file as a source: as fast as possible, or in real time.

    source = FileSource("call.flac", rate=16_000, stop=stop, realtime=True)

A file is decoded block by block, so that its length does not matter; its samples are those of
runtime.audio.decode.load, bit for bit. A file that is cut off or damaged is read as far as possible and flagged
`truncated`. Containers that libsndfile cannot open (m4a, mp4, webm, ...) are decoded by ffmpeg, where it is installed.
"""

import os
import time
from collections.abc import Iterator

import numpy as np

from runtime.audio.decode import UNKNOWN_FRAMES, UndecodableError, check_losses, decoding, open_sound
from runtime.audio.features import Samples
from runtime.audio.ffmpeg import FfmpegSound
from runtime.audio.resampler import Resampler
from runtime.sources import Block
from runtime.support.errors import AudioError, ShrikeError, printable
from runtime.support.shutdown import Stop

BLOCK = 8_000  # samples at a time, 0.5 s: short enough to stop quickly
BLOCK_SECONDS = 0.5  # s of a file at a time
PACE = 0.02  # s of sound in one block of --realtime, as a sound card delivers it


class FileSource:
    """Opens the file when created; raises ShrikeError with its name if it cannot be used."""

    def __init__(self, path: str | os.PathLike[str], rate: int, stop: Stop, realtime: bool = False) -> None:
        self.name, self.live = printable(os.fspath(path)), realtime
        self._path, self._rate, self._stop = path, rate, stop
        try:
            try:
                self._sound = open_sound(path)
            except UndecodableError as error:
                self._sound = FfmpegSound(path, str(error))
        except AudioError as error:
            raise ShrikeError(f"{self.name}: {error}") from error

    def __iter__(self) -> Iterator[Block]:
        resampler = Resampler(self._sound.samplerate, self._rate)
        size = max(1, round((PACE if self.live else BLOCK_SECONDS) * self._sound.samplerate))
        began, decoded, problem = time.monotonic(), 0, ""
        while not self._stop.requested:
            try:
                with decoding():
                    block = self._sound.read(size, dtype="float32", always_2d=True)
            except AudioError as error:
                problem = str(error)
                break
            if not len(block):
                problem = self._missing(decoded)
                break
            decoded += len(block)
            due = began + decoded / self._sound.samplerate
            if self.live:
                self._stop.wait(due - time.monotonic())
                if self._stop.requested:
                    return
            samples, invalid = resampler.push(block)
            yield Block(samples, due if self.live else time.monotonic(), invalid=invalid)
        else:
            return
        rest = resampler.flush()
        if len(rest) or problem:
            yield Block(rest, time.monotonic(), note=problem, flag="truncated" if problem else "")

    def _missing(self, decoded: int) -> str:
        """Return what is missing at the end of the file, if anything."""
        if isinstance(self._sound, FfmpegSound):
            return self._sound.problem()
        if self._sound.frames >= UNKNOWN_FRAMES:
            return ""
        try:
            check_losses(self._sound, decoded, self._path)
        except AudioError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._sound.close()


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
        yield Block(np.asarray(block), arrived)
