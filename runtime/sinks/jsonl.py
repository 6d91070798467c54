"""JSON lines for programs; docs/stream.md describes every entry.

    python -m runtime.stream --mic --json | jq -c 'select(.type == "verdict" and .state == "spoof")'

Each line is written and flushed at once, so that a reader never sees a part of one. Numbers are finite or null.
"""

import json
import math
from dataclasses import asdict
from typing import IO, Any

from runtime.sinks import Sink, StreamInfo
from runtime.summary import Summary
from runtime.support.wall_clock import utc
from runtime.verdict import Verdict

SCHEMA = 2  # raised when an entry changes its meaning or is removed; entries may be added at any time


class JsonLines(Sink):
    """Writes to `out`. BrokenPipeError, after the reader has exited, ends the stream."""

    def __init__(self, out: IO[str], named: bool = False) -> None:
        """`named`: every line has its source, for several at once."""
        self._out, self._named = out, named
        self._source: dict[str, str] = {}

    def begin(self, info: StreamInfo) -> None:
        self._source = {"source": info.source} if self._named else {}
        if self._named and info.channel is not None:
            self._source["channel"] = info.channel
        self._write("start", asdict(info))

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        entries = {
            "t": round(verdict.time, 4),
            "state": verdict.state,
            "score": verdict.score,
            "llr": rounded(verdict.llr),
            "llr_mean": rounded(verdict.smoothed),
            "p_spoof": rounded(verdict.p_spoof),
            "voiced": round(verdict.voiced, 3),
            "spoken": round(verdict.spoken, 3),
            "level": round(verdict.quality.level, 1),
            "flags": list(verdict.quality.flags),
            "latency_ms": None if latency is None else round(1000 * latency, 1),
        }
        self._write("verdict", entries)

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self._write("gap", {"t": round(time, 4), "lost": round(lost, 4), "restarted": restarted})

    def note(self, text: str) -> None:
        self._write("note", {"text": text})

    def end(self, summary: Summary) -> None:
        self._write("summary", asdict(summary))

    def file(self, worst: Summary, channels: int) -> None:
        names = ("source", "state", "channel", "p_spoof", "llr")
        self._write("file", {name: getattr(worst, name) for name in names} | {"channels": channels})

    def _write(self, kind: str, entries: dict[str, Any]) -> None:
        entry = finite({"v": SCHEMA, "type": kind, "at": utc(), **self._source, **entries})
        line = json.dumps(entry, allow_nan=False)  # ASCII: stdout may have another encoding than UTF-8
        self._out.write(line + "\n")
        self._out.flush()


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round a number; None where nothing was judged, and for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
