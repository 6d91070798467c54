"""One JSON object a line on stdout, for programs; docs/stream.md describes every entry.

    python -m runtime.stream --mic --json | jq -c 'select(.type == "verdict" and .state == "spoof")'

Each line is written and flushed as a whole: a reader never sees half of one. Numbers are finite or null.
"""

import json
import math
import time
from dataclasses import asdict
from typing import IO, Any

from runtime.sinks import Sink, StreamInfo
from runtime.summary import Summary
from runtime.verdict import Verdict

SCHEMA = 1  # raised when an entry changes its meaning or goes; new entries may come at any time


class JsonLines(Sink):
    """Writes to `out`; a reader that has gone is a BrokenPipeError, which ends the stream."""

    def __init__(self, out: IO[str], named: bool = False) -> None:
        """`named`: every line says which source it is about, for several at once."""
        self._out, self._named = out, named
        self._source: dict[str, str] = {}

    def begin(self, opening: StreamInfo) -> None:
        self._source = {"source": opening.source} if self._named else {}
        self._write("start", asdict(opening))

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        entries = {
            "t": round(verdict.time, 4),
            "state": verdict.state,
            "score": verdict.score,
            "llr": round(verdict.llr, 4),
            "llr_mean": round(verdict.smoothed, 4),
            "p_spoof": round(verdict.p_spoof, 4),
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

    def _write(self, kind: str, entries: dict[str, Any]) -> None:
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}Z"
        whole = finite({"v": SCHEMA, "type": kind, "at": at, **self._source, **entries})
        line = json.dumps(whole, ensure_ascii=False, allow_nan=False)
        self._out.write(line + "\n")
        self._out.flush()


def finite(value: Any) -> Any:
    """NaN and infinity as null: JSON has no others."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
