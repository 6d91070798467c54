"""Microphone through PortAudio, for weeks: dropped samples are counted, an unplugged device is opened again.

    microphone = Microphone("USB", rate=16_000, stop=stop)      # part of the name, number, or None for the default

    PortAudio's thread    callback: copy, note the overflow flag, return
                               |
                          BlockQueue (2 s; when it is full the oldest 0.2 s are dropped and counted)
                               |
    scoring loop          Resampler -> Block

A device has failed when PortAudio reports it, or when no callback comes for STALLED seconds. It is closed, PortAudio is
started anew (it finds new devices in no other way), and the device is searched by name: after 0.5 s, 1 s, 2 s ... up to
MOST_PATIENT. While another microphone of this process is open, PortAudio is not restarted; then only a device that
PortAudio knows is found.
"""

import importlib
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.channels import MIX
from runtime.audio.resampler import Resampler
from runtime.sources import Block, idle_block
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

QUEUED = 2.0  # s in the queue at most: more would only delay verdicts
DROPPED = 0.2  # s dropped at once when it is full: between gaps there must be time for frames of 108 ms
BLOCK = 0.02  # s in one callback
STALLED = 2.0  # s without a callback, or missing by the clock: unplugged, suspended
POLL = 0.1  # s between checks for the request to stop
ALIVE = 0.5  # s without sound after which an empty block is yielded, so that sinks go on
PATIENT, MOST_PATIENT = 0.5, 30.0  # s between attempts, doubled each time
CLOSING = 3.0  # s that closing a failed device may take before it is abandoned
MOST_CHANNELS = 2  # requested; more only where a device offers no fewer
USUAL_RATES = (48_000, 44_100, 16_000, 32_000, 96_000)  # Hz, tried after the device's default

# Beginnings of the lines of ALSA, of PortAudio's assertions, and of JACK and PulseAudio without a server.
CHATTER = re.compile(
    rb"ALSA lib |Expression '|PaAlsa|PaUnix|Cannot connect to server|connect\(2\) call|attempt to connect"
    rb"|jack server is not|Jack|Failed to connect to server|Cannot lock down|no message buffer overruns|\s*$"
)

Raw = NDArray[np.float32]  # (n, channels)


def clock() -> float:
    """Seconds that also pass while the machine is suspended, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class BlockQueue:
    """Bounded queue of blocks between two threads; when it is full, the oldest samples are dropped and counted."""

    def __init__(self, most: int, dropped: int = 0) -> None:
        """`most`: samples in the queue; `dropped`: at least so many are dropped at once."""
        self._most, self._left = most, most - dropped
        self._held = self._lost = 0
        self._blocks: deque[tuple[Raw, float, float]] = deque()
        self._arrival = threading.Condition()

    @property
    def held(self) -> int:
        """Samples in the queue."""
        return self._held

    def put(self, block: Raw, missing: int = 0) -> None:
        """Append a block without waiting. `missing`: samples that the driver dropped before it."""
        with self._arrival:
            self._blocks.append((block, time.monotonic(), clock()))
            self._held += len(block)
            self._lost += missing
            full = self._held > self._most
            while full and self._held > self._left and len(self._blocks) > 1:
                dropped = len(self._blocks.popleft()[0])
                self._held, self._lost = self._held - dropped, self._lost + dropped
            self._arrival.notify()

    def get(self, timeout: float) -> tuple[Raw, float, float, int] | None:
        """Return a block, its arrival by two clocks, and the samples lost before it; None if none comes in time."""
        with self._arrival:
            if not self._blocks and not self._arrival.wait(timeout):
                return None
            block, arrived, at = self._blocks.popleft()
            self._held -= len(block)
            lost, self._lost = self._lost, 0
            return block, arrived, at, lost


@contextmanager
def silenced() -> Iterator[None]:
    """Discard what ALSA, JACK and PortAudio write to stderr; it would break the live view. Pass all else on, late."""
    if not hasattr(os, "memfd_create"):  # they write on Linux alone
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.memfd_create("stderr"), "rb") as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            written.seek(0)
            for line in written:
                if not CHATTER.match(line):
                    os.write(2, line)


def load_sounddevice() -> Any:
    """Import the module, which starts PortAudio."""
    try:
        with silenced():
            return importlib.import_module("sounddevice")
    except ImportError as error:
        raise ShrikeError("--mic needs the package sounddevice: pip install sounddevice") from error
    except OSError as error:
        raise ShrikeError("--mic needs PortAudio: sudo apt install libportaudio2") from error


def list_devices() -> str:
    """List the microphones, one a line."""
    devices = load_sounddevice()
    try:
        default = devices.query_devices(kind="input")["index"]
    except (devices.PortAudioError, ValueError):
        default = None
    lines = [
        f"{'*' if device['index'] == default else ' '}{device['index']:3d}  {device['name']}  "
        f"({device['max_input_channels']} channels, {device['default_samplerate']:.0f} Hz)"
        for device in devices.query_devices()
        if device["max_input_channels"] > 0
    ]
    return "\n".join(lines) or "no microphone found; is one plugged in, and may this user use it (group audio)?"


class Microphone:
    """Opened when created: a fault at the start is an error, a later one is a note and a gap."""

    live = True
    lock = threading.RLock()  # PortAudio is not thread-safe
    open_count = 0  # of this process' microphones: PortAudio may only be restarted while there is none

    def __init__(self, device: str | None, rate: int, stop: Stop, devices: Any = None, channel: str = "mix") -> None:
        """`devices`: a substitute for the package sounddevice, in tests; `channel`: left, right or mix."""
        self._devices = devices or load_sounddevice()
        self._wanted, self._stop, self._channel = rate, stop, channel
        self.channel = None if channel == MIX else channel  # of the start line
        self._device: str | int | None = int(device) if device is not None and device.isdigit() else device
        self._stream: Any = None
        self._patience = PATIENT
        self._open()

    def _open(self) -> None:
        """Find the device, a rate and a number of channels that it accepts, and start it."""
        with self.lock:
            self._find_and_start()
            Microphone.open_count += 1

    def _find_and_start(self) -> None:
        devices = self._devices
        try:
            info = devices.query_devices(self._device, "input")
        except (devices.PortAudioError, ValueError) as error:
            which = "no microphone" if self._device is None else f"no microphone {self._device!r}"
            reason = " ".join(str(error).split())
            raise ShrikeError(f"{which} can be used ({reason}): --list-devices lists those that can") from error
        self.name = str(info["name"])
        most = int(info["max_input_channels"])
        rates = dict.fromkeys([int(info["default_samplerate"]), *USUAL_RATES])
        channels = dict.fromkeys([min(most, MOST_CHANNELS), 1, most])
        reason = ""
        for rate, count in ((rate, count) for rate in rates for count in channels):
            try:
                self._start(int(info["index"]), rate, count)
                break
            except devices.PortAudioError as error:
                reason = reason or " ".join(str(error.args[0]).split())
        else:
            raise ShrikeError(f"the microphone {self.name} cannot be opened ({reason}): close the program that uses it")
        if self._device is not None:
            # "USB Audio (hw:1,0)": the number may be another one after it was plugged in again.
            self._device = self.name.partition(" (hw:")[0]

    def _start(self, index: int, rate: int, channels: int) -> None:
        self._resampler = Resampler(rate, self._wanted, self._channel)
        self._blocks = blocks = BlockQueue(int(QUEUED * rate), int(DROPPED * rate))

        def callback(block: Raw, frames: int, times: Any, status: Any) -> None:
            blocks.put(block.copy(), frames if status.input_overflow else 0)

        with silenced():
            stream = self._devices.InputStream(
                samplerate=rate,
                blocksize=int(BLOCK * rate),
                device=index,
                channels=channels,
                dtype="float32",
                callback=callback,
            )
            try:
                stream.start()
            except self._devices.PortAudioError:
                stream.close(ignore_errors=True)
                raise
        self._stream = stream

    def __iter__(self) -> Iterator[Block]:
        expected: float | None = None  # by the clock: when the next block was due
        note = ""
        while not self._stop.requested:
            for block, at in self._listen(expected):
                expected = at
                if not len(block.samples):  # a mute device gives these as well
                    yield block
                    continue
                yield replace(block, note=note) if note else block
                note, self._patience = "", PATIENT
            if self._stop.requested:
                return
            # A note that is still pending means: opened again but mute, which was reported before.
            yield idle_block("" if note else f"the microphone {self.name} is gone; looking for it")
            yield from self._reopen()
            note = f"the microphone {self.name} is back"

    def _listen(self, expected: float | None) -> Iterator[tuple[Block, float]]:
        """Yield blocks, and when each ended by the clock, until the device fails."""
        rate, silence = self._resampler.rate, 0.0
        while not self._stop.requested:
            got = self._blocks.get(POLL)
            if got is None:
                silence += POLL
                if silence > STALLED or not self._stream.active:
                    return
                if round(silence / POLL) % round(ALIVE / POLL) == 0 and expected is not None:
                    yield idle_block(), expected
                continue
            silence = 0.0
            raw, arrived, at, missing = got
            lost = missing / rate
            if expected is not None and at - expected - len(raw) / rate > STALLED:
                lost = max(lost, at - expected - len(raw) / rate)
            if lost:
                self._resampler.reset()
            samples, invalid = self._resampler.push(raw)
            expected = at
            yield Block(samples, arrived, lost, invalid, flags=self._resampler.flags), expected

    def _reopen(self) -> Iterator[Block]:
        """Open the device again, or end at the request to stop; yields empty blocks meanwhile."""
        closed = self._close()
        while not self._stop.requested:
            if self._stop.wait(self._patience):
                return
            self._patience = min(2 * self._patience, MOST_PATIENT)
            try:
                with self.lock:
                    # PortAudio must not be ended below a hanging stream or another open microphone.
                    if closed and not Microphone.open_count:
                        with silenced():
                            self._devices._terminate()
                            self._devices._initialize()
                    self._open()
                return
            except (ShrikeError, self._devices.PortAudioError):
                yield idle_block()

    def _close(self) -> bool:
        """Close in a thread of its own; False if the failed device hangs, which abandons that thread."""
        with self.lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return True
            Microphone.open_count -= 1

        def end() -> None:
            with suppress(Exception):
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)

        thread = threading.Thread(target=end, daemon=True)
        with self.lock, silenced():
            thread.start()
            thread.join(CLOSING)
        return not thread.is_alive()

    def close(self) -> None:
        self._close()
