"""Sound from a pipe: raw samples of any program that writes PCM, or a container that its header identifies.

    arecord -f S16_LE -r 16000 -t raw | python -m runtime.stream --stdin
    ffmpeg -i rtsp://camera/stream -f s16le -ac 1 -ar 48000 - | python -m runtime.stream --stdin --rate 48000
    curl https://radio.example/live.mp3 | python -m runtime.stream --stdin

WAV is decoded here, other containers (FLAC, Ogg, MP3, ...) by ffmpeg, where it is installed. A full pipe blocks its
writer, so that nothing is lost here; a live writer reports its own losses.
"""

import os
import select
import sys
import time
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Literal, get_args

from runtime.audio.channels import MIX, check_channel
from runtime.audio.containers import MOST_CHANNELS, PcmFormat, WavHeader, bytes_needed, parse_wav, recognise
from runtime.audio.decode import LOSS_TOLERATED, MAX_RATE, MIN_RATE, check_rate
from runtime.audio.ffmpeg import READ, Ffmpeg
from runtime.audio.resampler import Resampler
from runtime.sources import Block, idle_block
from runtime.support.errors import AudioError, ShrikeError
from runtime.support.shutdown import Stop

Coding = Literal["s16le", "s16be", "s32le", "u8", "f32le", "f64le"]  # as ffmpeg names them
IDLE = 0.5  # s without a byte after which an empty block is yielded, so that sinks go on
CONVERT = "or convert it: ... | ffmpeg -i - -f s16le -ac 1 -ar 16000 - | ..."


class EmptyInputError(ShrikeError):
    """The pipe ended without sound: an exit code of its own, so that a service restarts its source."""

    code = 5


class PcmSource:
    """Reads what is there, without waiting for a full block."""

    name, live = "stdin", True

    def __init__(
        self,
        rate: int,
        coding: Coding,
        channels: int,
        wanted: int,
        stop: Stop,
        descriptor: int | None = None,
        channel: str = MIX,
    ) -> None:
        """`rate`, `coding`, `channels`: of raw samples; `channel`: left, right or mix."""
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ShrikeError(f"--rate {rate}: expected {MIN_RATE:,} to {MAX_RATE:,} Hz")
        if not 1 <= channels <= MOST_CHANNELS:
            raise ShrikeError(f"--channels {channels}: expected 1 to {MOST_CHANNELS}")
        if coding not in get_args(Coding):
            raise ShrikeError(f"--dtype {coding!r}: expected one of {', '.join(get_args(Coding))}")
        self._stdin = sys.stdin.fileno() if descriptor is None else descriptor
        if os.isatty(self._stdin):
            raise ShrikeError(
                "--stdin is a terminal: expected a pipe, as in arecord -t raw | python -m runtime.stream --stdin"
            )
        self._raw, self._wanted, self._stop = PcmFormat(coding, rate, channels), wanted, stop
        self.channel = None if channel == MIX else channel
        self._chosen = channel
        self._child: Ffmpeg | None = None

    def __iter__(self) -> Iterator[Block]:
        incoming, data = self._read(self._stdin), b""
        for new in incoming:
            data += new
            if not new:
                yield idle_block()
            elif len(data) >= bytes_needed(data):
                break
        if self._stop.requested:
            return
        if not data:
            raise EmptyInputError("--stdin: the pipe ended without a byte")
        kind = recognise(data)
        if kind is None:
            yield from self._decode(WavHeader(self._raw, 0, None), data, incoming)
            return
        try:
            yield from self._decode_container(kind, data, incoming)
        except EmptyInputError:
            raise
        except ShrikeError as error:
            raise ShrikeError(f"--stdin: {kind} header: {error}") from error

    def close(self) -> None:
        """End ffmpeg; standard input belongs to the process."""
        if self._child:
            self._child.close()

    def _read(self, descriptor: int) -> Iterator[bytes]:
        """Yield the bytes that arrive until the end or the request to stop; none after IDLE seconds."""
        while True:
            ready, _, _ = select.select([descriptor, self._stop.descriptor], [], [], IDLE)
            if self._stop.requested:
                return
            data = os.read(descriptor, READ) if ready else b""
            if ready and not data:
                return
            yield data

    def _decode_container(self, kind: str, data: bytes, incoming: Iterator[bytes]) -> Iterator[Block]:
        """Decode the stream that begins with `data` as its own header describes it."""
        header = None
        if kind == "WAV":
            header, data = yield from _read_header(data, incoming)
        if kind != "WAV" or (header and header.pcm is None):
            self._child = Ffmpeg(None, "expected raw samples or WAV")
            self._child.feed(data, lambda: os.read(self._stdin, READ))
            incoming = self._read(self._child.descriptor)
            header, data = yield from _read_header(b"", incoming)
        if self._stop.requested:
            return
        if header is None or header.pcm is None:
            problem = self._child.problem() if self._child else "it ends before the samples"
            raise AudioError(f"cannot be decoded ({problem or 'no sound in it'}); {CONVERT}")
        check_rate(header.pcm.rate)
        channels = f"{header.pcm.channels} channel" + "s" * (header.pcm.channels > 1)
        note = f"stdin is {kind}, {header.pcm.rate:,} Hz, {channels}; --rate, --dtype and --channels do not apply"
        yield idle_block(note)
        yield from self._decode(header, data[header.start :], incoming)

    def _decode(self, header: WavHeader, data: bytes, incoming: Iterator[bytes]) -> Iterator[Block]:
        """Decode the samples that begin with `data`."""
        pcm, left = header.pcm, header.length
        assert pcm
        check_channel(self._chosen, pcm.channels)
        resampler, rest, received = Resampler(pcm.rate, self._wanted, self._chosen), b"", 0
        for new in chain((data,), incoming):
            arrived = time.monotonic()
            if not new:
                yield idle_block()
                continue
            sound = rest + (new if left is None else new[: left - received])  # behind the samples are other chunks
            received += len(sound) - len(rest)
            whole = len(sound) // pcm.size * pcm.size
            rest = sound[whole:]
            samples, invalid = resampler.push(pcm.decode(sound[:whole]))
            yield Block(samples, arrived, invalid=invalid, flags=resampler.flags)
        if self._stop.requested:
            return
        problem = self._child.problem() if self._child else ""
        if not received and self._raw is not pcm:
            raise EmptyInputError(f"--stdin: the pipe ended without sound{f' ({problem})' if problem else ''}")
        if left is not None and left - received > LOSS_TOLERATED * pcm.rate * pcm.size:
            problem = f"cut off: {received:,} of {left:,} bytes that its header promises"
        note = f"the last {len(rest)} bytes are not a whole sample: check --dtype and --channels" if rest else problem
        flags = ("truncated",) if problem else ()
        yield Block(resampler.flush(), time.monotonic(), note=note, flags=flags)


def _read_header(data: bytes, incoming: Iterator[bytes]) -> Generator[Block, None, tuple[WavHeader | None, bytes]]:
    """Read until a WAV header is complete: the header, and all bytes from the stream's start. Yields idle blocks."""
    header = parse_wav(data)
    while header is None and (new := next(incoming, None)) is not None:
        data += new
        header = parse_wav(data)
        if not new:
            yield idle_block()
    return header, data
