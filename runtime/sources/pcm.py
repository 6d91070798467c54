"""Raw samples from a pipe: any program that writes PCM is a source.

    arecord -f S16_LE -r 16000 -t raw | python -m runtime.stream --stdin
    ffmpeg -i rtsp://camera/stream -f s16le -ac 1 -ar 48000 - | python -m runtime.stream --stdin --rate 48000

A full pipe blocks its writer, so that nothing is lost here; a live writer reports its own losses.
"""

import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.audio.resampler import Resampler
from runtime.sources import Block
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

Coding = Literal["s16le", "s16be", "s32le", "u8", "f32le", "f64le"]  # as ffmpeg names them
TYPES = {"s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "u8": "u1", "f32le": "<f4", "f64le": "<f8"}
MOST_CHANNELS = 64
HEADERS = {b"RIFF": "WAV", b"RF64": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF"}
READ = 65_536  # bytes at most per read, a Linux pipe's size
IDLE = 0.5  # s without a byte after which an empty block is yielded, so that sinks go on


class EmptyInputError(ShrikeError):
    """The pipe ended without a byte: an exit code of its own, so that a service restarts its source."""

    code = 5


class PcmSource:
    """Reads what is there, without waiting for a full block."""

    live = True

    def __init__(
        self, rate: int, coding: Coding, channels: int, wanted: int, stop: Stop, descriptor: int | None = None
    ) -> None:
        from runtime.audio.decode import MAX_RATE, MIN_RATE

        if not MIN_RATE <= rate <= MAX_RATE:
            raise ShrikeError(f"--rate {rate}: expected {MIN_RATE:,} to {MAX_RATE:,} Hz")
        if not 1 <= channels <= MOST_CHANNELS:
            raise ShrikeError(f"--channels {channels}: expected 1 to {MOST_CHANNELS}")
        if coding not in get_args(Coding):
            raise ShrikeError(f"--dtype {coding!r}: expected one of {', '.join(get_args(Coding))}")
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        if os.isatty(self._descriptor):
            raise ShrikeError(
                "--stdin is a terminal: expected a pipe, as in arecord -t raw | python -m runtime.stream --stdin"
            )
        self.name, self.notes = "stdin", ()
        self._type, self._channels, self._stop = np.dtype(TYPES[coding]), channels, stop
        self._resampler = Resampler(rate, wanted)

    def __iter__(self) -> Iterator[Block]:
        size = self._type.itemsize * self._channels
        rest, received = b"", 0
        while True:
            ready, _, _ = select.select([self._descriptor, self._stop.descriptor], [], [], IDLE)
            if self._stop.requested:
                return
            if not ready:
                yield Block(np.empty(0, np.float32), time.monotonic())
                continue
            data = os.read(self._descriptor, READ)
            arrived = time.monotonic()
            if not data:
                break
            if not received:
                _refuse_header(data)
            received += len(data)
            data = rest + data
            whole = len(data) // size * size
            rest = data[whole:]
            samples, invalid = self._resampler.push(self._decode(data[:whole]))
            yield Block(samples, arrived, invalid=invalid)
        if not received:
            raise EmptyInputError("--stdin: the pipe ended without a byte")
        note = f"the last {len(rest)} bytes are not a whole sample: check --dtype and --channels" if rest else ""
        yield Block(self._resampler.flush(), time.monotonic(), note=note)

    def _decode(self, data: bytes) -> NDArray[np.float32]:
        """Convert bytes to (n, channels), full scale 1."""
        values = np.frombuffer(data, self._type).reshape(-1, self._channels)
        if self._type.kind == "f":
            with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is counted as invalid
                return values.astype(np.float32)
        if self._type.kind == "u":
            return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
        return values.astype(np.float32) / np.float32(2 ** (8 * self._type.itemsize - 1))

    def close(self) -> None:
        """Do nothing: standard input belongs to the process."""


def _refuse_header(data: bytes) -> None:
    """Raise for the header of a sound file: scored as samples, it would be noise at a wrong rate."""
    kind = next((kind for start, kind in HEADERS.items() if data.startswith(start)), None)
    if kind:
        raise ShrikeError(
            f"--stdin: {kind} header, expected raw samples; use --file, or a pipe through "
            "ffmpeg -i - -f s16le -ac 1 -ar 16000 -"
        )
