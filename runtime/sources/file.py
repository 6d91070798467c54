"""Sound file as a source: as fast as possible, or in real time.

    source = FileSource("call.flac", rate=16_000, stop=stop, realtime=True, channel="left")

A file is decoded block by block, so that its length does not matter; its samples are those of
runtime.audio.decode.load, bit for bit. A file that is cut off or damaged is read as far as possible and flagged
`truncated`. Containers that libsndfile cannot open (m4a, mp4, webm, ...), and an MP3 whose header states no length, are
decoded by ffmpeg, where it is installed.
"""

import os
import time
from collections.abc import Iterator

import numpy as np

from runtime.audio.channels import MIX, check_channel, plan
from runtime.audio.decode import BLOCK as VALUES
from runtime.audio.decode import OGG_CUT, UNKNOWN_FRAMES, check_losses, decoding
from runtime.audio.features import Samples
from runtime.audio.ffmpeg import FfmpegSound, open_file
from runtime.audio.resampler import Resampler
from runtime.sources import Block
from runtime.support.errors import AudioError, ShrikeError, printable
from runtime.support.shutdown import Stop

BLOCK = 8_000  # samples at a time, 0.5 s: short enough to stop quickly
BLOCK_SECONDS = 0.5  # s of a file at a time
PACE = 0.02  # s of sound in one block of --realtime, as a sound card delivers it
ANTIPHASE = "the two channels are in antiphase and cancel in the mix: judge them one by one (--channel each)"


class FileSource:
    """Opens the file when created; raises ShrikeError with its name if it cannot be used."""

    def __init__(
        self, path: str | os.PathLike[str], rate: int, stop: Stop, realtime: bool = False, channel: str = MIX
    ) -> None:
        """`channel`: mix, or one of runtime.audio.channels.names."""
        self.name, self.live = printable(os.fspath(path)), realtime
        self.channel = None if channel == MIX else channel
        self.truncated = False  # whether sound is missing, as far as it was read
        self._path, self._rate, self._stop = path, rate, stop
        try:
            self._sound = open_file(path)
        except AudioError as error:
            raise ShrikeError(f"{self.name}: {error}") from error
        self._resampler = Resampler(self._sound.samplerate, rate, channel)
        try:
            check_channel(channel, self._sound.channels)
        except ShrikeError as error:
            self._sound.close()
            raise ShrikeError(f"{self.name}: {error}") from error

    def __iter__(self) -> Iterator[Block]:
        frames = round((PACE if self.live else BLOCK_SECONDS) * self._sound.samplerate)
        size = max(1, min(frames, VALUES // self._sound.channels))  # no header can claim memory
        began, decoded, problem, flagged = time.monotonic(), 0, "", False
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
            samples, invalid = self._resampler.push(block)
            flags = self._resampler.flags
            note, flagged = ANTIPHASE if flags and not flagged else "", flagged or bool(flags)
            yield Block(samples, due if self.live else time.monotonic(), invalid=invalid, note=note, flags=flags)
        else:
            return
        self.truncated = bool(problem)
        rest = self._resampler.flush()
        if len(rest) or problem:
            yield Block(rest, time.monotonic(), note=problem, flags=("truncated",) if problem else ())

    def _missing(self, decoded: int) -> str:
        """Return what is missing at the end of the file, if anything."""
        if isinstance(self._sound, FfmpegSound):
            return self._sound.problem()
        if self._sound.frames >= UNKNOWN_FRAMES:
            return ""
        try:
            notes = check_losses(self._sound, decoded, self._path)
        except AudioError as error:
            return str(error)
        return OGG_CUT if OGG_CUT in notes else ""

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._sound.close()


def open_channels(
    path: str | os.PathLike[str], rate: int, stop: Stop, realtime: bool = False, wanted: str | None = None
) -> list[FileSource]:
    """Open a file once for each channel that is judged; runtime.audio.channels.plan describes `wanted`."""
    sources = list[FileSource]()
    try:
        for channel in plan(path, wanted):
            sources.append(FileSource(path, rate, stop, realtime, channel))
    except ShrikeError:
        for source in sources:
            source.close()
        raise
    return sources


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
