"""`--json --changes`: only changes of state, and a line every `--heartbeat` seconds that the process is alive.

    {"type": "change", ...}                    as runtime.sinks.changes describes it
    {"type": "heartbeat", "state": "bonafide", "t": 812.4, ..., "without_sound": 0.1}

Heartbeats follow the clock, not the sound: they go on while a microphone is unplugged.
"""

import time
from typing import IO

from runtime.audio.features import Samples
from runtime.sinks import StreamInfo
from runtime.sinks.changes import DEBOUNCE, ChangeSink, verdict_entries
from runtime.sinks.jsonl import JsonLines
from runtime.verdict import Verdict

HEARTBEAT = 60.0  # s


class JsonChanges(JsonLines):
    """Writes changes and heartbeats instead of every verdict."""

    def __init__(
        self, out: IO[str], named: bool = False, debounce: float = DEBOUNCE, heartbeat: float = HEARTBEAT
    ) -> None:
        """`named` is that of JsonLines."""
        super().__init__(out, named)
        self._changes = ChangeSink([lambda change: self._write("change", change.entries())], debounce)
        self._heartbeat = heartbeat

    def begin(self, info: StreamInfo) -> None:
        super().begin(info)
        self._changes.begin(info)
        self._newest: Verdict | None = None
        self._written = self._arrived = time.monotonic()

    def sound(self, samples: Samples) -> None:
        now = time.monotonic()
        if len(samples):
            self._arrived = now
        if now - self._written >= self._heartbeat:
            self._written = now
            newest = {} if self._newest is None else verdict_entries(self._newest)
            silent = round(now - self._arrived, 1)
            self._write("heartbeat", {"state": self._changes.state, **newest, "without_sound": silent})

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._newest = verdict
        self._changes.verdict(verdict, latency)

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        super().gap(time, lost, restarted)
        self._changes.gap(time, lost, restarted)
