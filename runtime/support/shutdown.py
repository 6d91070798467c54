"""Treat Ctrl-C and SIGTERM as a normal end: the program finishes its work and exits with code 0.

    with Stop() as stop:
        while not stop.requested:
            ...
            stop.wait(0.5)                     # returns at once on a signal

A second signal is not caught, so that a hanging program can still be stopped.
"""

import os
import select
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # those ignored at the start (nohup) stay ignored
LONGEST = 86_400.0  # s of one wait


class Stop:
    """A request to stop, by signal or by `request()`. Signals are caught in the main thread only."""

    def __init__(self) -> None:
        self._requested = False  # no lock: a signal may come while one is held
        self._before: dict[int, Any] = {}
        # Becomes readable on a request, for callers that wait with select.
        self.descriptor, self._write = os.pipe()

    @property
    def requested(self) -> bool:
        return self._requested

    def request(self) -> None:
        if not self._requested:
            self._requested = True
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep that long or until a request; return whether there was one."""
        if not self._requested:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            poll.poll(1000 * min(max(0.0, seconds), LONGEST))
        return self._requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self.request()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            caught = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        os.close(self.descriptor)
        os.close(self._write)
