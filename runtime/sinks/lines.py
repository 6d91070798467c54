"""Plain lines for a pipe, a log or a simple terminal: every change, and otherwise one a second.

  4.98 s  spoof       P(spoof) 0.83  LLR  -1.60   -23 dBFS
  9.07 s  no-voice                                -64 dBFS
call.wav: spoof, P(spoof) 0.81, LLR -1.44, 7.9 of 9.2 s voiced; spoof 0.0-9.2 s (peak P 0.88)

With several sources at once every line begins with its source, as the last one does.
"""

import time
from typing import IO

from runtime.audio.features import Samples
from runtime.audio.quality import FLAGS
from runtime.sinks import Sink, StreamInfo
from runtime.summary import Summary
from runtime.verdict import Verdict

EVERY = 1.0  # s between lines while nothing changes
STILL = 5.0  # s without sound after which a line reports that, once


class Lines(Sink):
    """Writes results to `out`, log lines to `err`."""

    def __init__(self, out: IO[str], err: IO[str], verdicts: bool = True, named: bool = False) -> None:
        """`verdicts` false: summaries alone, for files at full speed. `named`: every line begins with its source."""
        self._out, self._err, self._verdicts, self._named = out, err, verdicts, named
        self._prefix = ""
        self._shown: tuple[str, tuple[str, ...]] | None = None
        self._written = 0.0

    def begin(self, info: StreamInfo) -> None:
        self._shown, self._written = None, 0.0
        self._prefix = f"{info.source}: " if self._named else ""
        self._last_sound, self._reported = time.monotonic(), False

    def sound(self, samples: Samples) -> None:
        if len(samples):
            self._last_sound, self._reported = time.monotonic(), False
        elif not self._reported and time.monotonic() - self._last_sound > STILL:
            self._reported = True
            self._write(self._err, f"no sound has arrived for {STILL:.0f} s; waiting")

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        state = (verdict.state, verdict.quality.flags)
        if not self._verdicts or (state == self._shown and verdict.time - self._written < EVERY):
            return
        new = [flag for flag in state[1] if self._shown is None or flag not in self._shown[1]]
        self._shown, self._written = state, verdict.time
        flags = f"  [{', '.join(state[1])}]" if state[1] else ""
        self._write(
            self._out,
            f"{verdict.time:9.2f} s  {verdict.state:<10}  {numbers(verdict)}  {verdict.quality.level:4.0f} dBFS{flags}",
        )
        for flag in new:
            self._write(self._err, f"{flag}: {FLAGS[flag]}")

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self._write(self._err, f"{lost:.2f} s of sound lost{'; the window was reset' if restarted else ''}")

    def note(self, text: str) -> None:
        self._write(self._err, text)

    def end(self, summary: Summary) -> None:
        self._write(self._out, summary.line().removeprefix(self._prefix))  # begins with its source anyway
        if summary.verdicts:
            self._write(self._err, summary.costs())

    def _write(self, stream: IO[str], line: str) -> None:
        stream.write(f"{self._prefix}{line}\n")
        stream.flush()


def numbers(verdict: Verdict) -> str:
    """P(spoof) and LLR in columns; blanks where nothing was judged."""
    if verdict.p_spoof is None or verdict.smoothed is None:
        return " " * len("P(spoof) 0.00  LLR +00.00")
    return f"P(spoof) {verdict.p_spoof:.2f}  LLR {verdict.smoothed:+6.2f}"
