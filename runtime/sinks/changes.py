"""Changes of state, debounced: what alerts and `--json --changes` report.

    alerts = ChangeSink([webhook.send, on_change.send], debounce=1.0)     # one for each source

    state      unsure  spoof unsure spoof spoof spoof spoof ...
    debounce                        |<-- 1 s -->|
    change     none                             spoof, since the first of them

A change is reported once its state has held for `debounce` seconds of sound. `warming-up` and `too-short` are no
answers yet: they neither are a change nor end the last state.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from runtime.audio.features import Samples
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.jsonl import SCHEMA, JsonLines, rounded
from runtime.support.errors import ShrikeError
from runtime.support.wall_clock import utc
from runtime.verdict import Verdict

DEBOUNCE = 1.0  # s; the state's own hysteresis and smoothing come before it
LONGEST = 3600.0  # s
HEARTBEAT = 60.0  # s
UNDECIDED = {"warming-up", "too-short"}


@dataclass(frozen=True)
class StateChange:
    """One source has another state than before."""

    at: str  # wall-clock time, ISO 8601 UTC
    source: str
    model: str
    t: float  # s since the stream began, when the state had held long enough
    since: float  # s since the stream began, when the state began
    state: str
    previous: str | None  # None for a source's first state
    p_spoof: float | None
    llr: float | None  # the running mean behind p_spoof
    level: float | None  # dBFS
    flags: tuple[str, ...]

    def entries(self) -> dict[str, Any]:
        """The JSON line of this change."""
        source = self.source.encode("utf-8", "backslashreplace").decode()  # names of files may be any bytes
        return {"v": SCHEMA, "type": "change", **asdict(self), "source": source, "flags": list(self.flags)}

    def body(self) -> bytes:
        """The JSON line as UTF-8, without the line's end."""
        return json.dumps(self.entries(), ensure_ascii=False, allow_nan=False).encode()


class ChangeSink(Sink):
    """Gives every change of one source to each receiver; receivers must not wait."""

    def __init__(self, receivers: Sequence[Callable[[StateChange], None]], debounce: float = DEBOUNCE) -> None:
        if not 0 <= debounce <= LONGEST:
            raise ShrikeError(f"--debounce {debounce}: expected 0 to {LONGEST:.0f} s")
        self._receivers, self._debounce = receivers, debounce

    def begin(self, info: StreamInfo) -> None:
        self._info = info
        self.state: str | None = None  # the last that was reported
        self._next: str | None = None  # has not held long enough yet
        self._since = 0.0  # s, the begin of `_next`

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        if restarted:
            self._next = None

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        if verdict.state in UNDECIDED or verdict.state == self.state:
            self._next = None
            return
        if verdict.state != self._next:
            self._next, self._since = verdict.state, verdict.time
        if verdict.time - self._since < self._debounce:
            return
        previous, self.state, self._next = self.state, verdict.state, None
        change = StateChange(
            at=utc(),
            source=self._info.label,
            model=self._info.model,
            since=round(self._since, 4),
            state=verdict.state,
            previous=previous,
            **verdict_entries(verdict),
        )
        for receive in self._receivers:
            receive(change)


class JsonChanges(JsonLines):
    """`--json --changes`: writes changes, and a line every `heartbeat` seconds that the process is alive.

    Heartbeats follow the clock, not the sound: they go on while a microphone is unplugged.
    """

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


def verdict_entries(verdict: Verdict) -> dict[str, Any]:
    """Entries of a JSON line that come from one verdict."""
    return {
        "t": round(verdict.time, 4),
        "p_spoof": rounded(verdict.p_spoof),
        "llr": rounded(verdict.smoothed),
        "level": rounded(verdict.quality.level, 1),
        "flags": tuple(verdict.quality.flags),
    }
