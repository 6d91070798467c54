"""Plain lines for a pipe, a log or a simple terminal: every change, otherwise one a second, or one
an hour while there is no voice.

  2026-11-26T07:44:49Z       4.98 s  spoof       P(spoof) 0.83  LLR  -1.60   -23 dBFS
  2026-11-26T07:44:53Z       9.07 s  no-voice                                -64 dBFS
call.wav: spoof, P(spoof) 0.81, LLR -1.44, 7.9 of 9.2 s voiced; spoof 0.0-9.2 s (peak P 0.88)

With several sources at once every line begins with its source, as the last one does.
"""

import time
from typing import IO

from runtime.audio.features import Samples
from runtime.audio.quality import FLAGS
from runtime.sinks import Sink, StreamInfo
from runtime.summary import BORDERLINE, Summary
from runtime.support.wall_clock import utc_seconds
from runtime.verdict import Verdict

EVERY = 1.0  # s between lines while nothing changes
EVERY_QUIET = 3600.0  # s, the same without voice
STILL = 5.0  # s without sound after which a line reports that, once


class Lines(Sink):
    """Writes results to `out`, log lines to `err`."""

    def __init__(self, out: IO[str], err: IO[str], verdicts: bool = True, named: bool = False) -> None:
        """`verdicts` false: summaries alone, for files at full speed. `named`: every line begins with its source."""
        self._out, self._err, self._verdicts, self._named = out, err, verdicts, named
        self._prefix = ""
        self._state, self._flags = "", frozenset[str]()  # of the last line
        self._written, self._live = 0.0, False

    def begin(self, info: StreamInfo) -> None:
        self._state, self._flags, self._written, self._live = "", frozenset(), 0.0, info.live
        self._prefix = f"{info.label}: " if self._named else ""
        self._last_sound, self._reported = time.monotonic(), False

    def sound(self, samples: Samples) -> None:
        if len(samples):
            self._last_sound, self._reported = time.monotonic(), False
        elif not self._reported and time.monotonic() - self._last_sound > STILL:
            self._reported = True
            self._write(self._err, f"no sound has arrived for {STILL:.0f} s; waiting")

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        flags = frozenset(verdict.quality.flags)
        quiet = verdict.state == "no-voice"
        changed = verdict.state != self._state or (not flags <= self._flags if quiet else flags != self._flags)
        due = verdict.time - self._written >= (EVERY_QUIET if quiet else EVERY)
        if not self._verdicts or not (changed or due):
            return
        new = [flag for flag in verdict.quality.flags if flag not in self._flags]
        seen = self._flags if quiet and verdict.state == self._state else frozenset[str]()  # they come and go in noise
        self._state, self._flags, self._written = verdict.state, flags | seen, verdict.time
        names = f"  [{', '.join(verdict.quality.flags)}]" if flags else ""
        clock = f"{utc_seconds()}  " if self._live else ""
        self._write(
            self._out,
            f"{clock}{verdict.time:9.2f} s  {verdict.state:<10}  {numbers(verdict)}  "
            f"{verdict.quality.level:4.0f} dBFS{names}",
        )
        for flag in new:
            self._write(self._err, f"{flag}: {FLAGS[flag]}")

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self._write(self._err, f"{lost:.2f} s of sound lost{'; the window was reset' if restarted else ''}")

    def note(self, text: str) -> None:
        self._write(self._err, text)

    def end(self, summary: Summary) -> None:
        self._write(self._out, summary.line().removeprefix(self._prefix))  # begins with its source anyway
        if "borderline" in summary.flags:
            self._write(self._err, BORDERLINE)
        if summary.verdicts:
            self._write(self._err, summary.costs())

    def file(self, worst: Summary, channels: int) -> None:
        self._write(self._out, f"{worst.source}: {worst.state} ({worst.channel} channel, the worst of {channels})")

    def _write(self, stream: IO[str], line: str) -> None:
        stream.write(f"{self._prefix}{line}\n")
        stream.flush()


def numbers(verdict: Verdict) -> str:
    """P(spoof) and LLR in columns; blanks where nothing was judged."""
    if verdict.p_spoof is None or verdict.smoothed is None:
        return " " * len("P(spoof) 0.00  LLR +00.00")
    return f"P(spoof) {verdict.p_spoof:.2f}  LLR {verdict.smoothed:+6.2f}"
