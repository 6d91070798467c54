"""Progress of a scan on stderr: a bar on a terminal, a line now and then in a log.

progress = ScanProgress([3_000, 2_000])          # sizes of the files in bytes
progress.step(result)                            # [############........] 1 of 2 files, about 2 s left
"""

import sys
import time
from collections.abc import Sequence

from runtime.scan.workers import Result
from runtime.summary import plural

EVERY = 0.5  # s between updates on a terminal
EVERY_LOG = 30.0  # s, the same where stderr is no terminal
WIDTH = 20  # of the bar


class ScanProgress:
    """Share of the work that is done, and an estimate of the rest, by the files' sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._files, self._bytes = len(sizes), sum(sizes)
        self._done, self._size, self._sound = 0, 0, 0.0
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()

    def step(self, result: Result) -> None:
        """Count one more file, and show the line if it is due."""
        self._done += 1
        self._size += max(result.size, 0)
        self._sound += result.summary.seconds if result.summary else 0.0
        now = time.monotonic()
        if self._done < self._files and now - self._shown >= (EVERY if self._terminal else EVERY_LOG):
            self._shown = now
            done = round(WIDTH * min(self._size / max(self._bytes, 1), 1.0))
            left = (now - self._began) * max(self._bytes - self._size, 0) / max(self._size, 1)
            bar, end = (f"[{'#' * done}{'.' * (WIDTH - done)}] ", "") if self._terminal else ("", "\n")
            line = f"{bar}{self._done:,} of {plural(self._files, 'file')}, about {left:,.0f} s left"
            print(line, end=end, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line, so that another can be written."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def total(self) -> str:
        """Sound and time of this run."""
        return f"{self._sound:,.0f} s of sound in {time.monotonic() - self._began:,.1f} s"
