"""Ctrl-C and SIGTERM as a normal end: what runs is asked to finish, flushes, sums up, and the exit code is 0.

    with Stop() as stop:
        while not stop.requested:
            ...
            stop.wait(0.5)                     # returns at once when the signal comes

A second signal is not caught any more, so that a program that hangs can still be ended.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what was ignored at the start (nohup) stays ignored


class Stop:
    """A request to end, by signal or by `request()`. Signals are only caught in the main thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._before: dict[int, Any] = {}
        # A file descriptor that becomes readable, for those that wait on others with select.
        self.descriptor, self._write = os.pipe()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        if not self._event.is_set():
            self._event.set()
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep that long, or until the request; True if it came."""
        return self._event.wait(max(0.0, seconds))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request()
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            caught = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        os.close(self.descriptor)
        os.close(self._write)
