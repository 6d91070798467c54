"""Measure durations and memory of a program, in constant memory.

times = Percentiles()
times.add(0.0031)
times.at(0.5, 0.95, 0.99)               # s
"""

import math
import os
import time
from pathlib import Path

import numpy as np

LEAST, MOST = 1e-6, 1e3  # s
LONGEST_START = 300.0  # s from a process's start to its imports; a longer time is an error of a clock
PER_DECADE = 40  # bins: percentiles are accurate to 3 %


class Percentiles:
    """A histogram with logarithmic bins."""

    def __init__(self) -> None:
        self._counts = [0] * (round(math.log10(MOST / LEAST)) * PER_DECADE + 1)
        self.count, self.largest = 0, 0.0

    def add(self, seconds: float) -> None:
        place = math.log10(min(max(seconds, LEAST), MOST) / LEAST) * PER_DECADE
        self._counts[round(place)] += 1
        self.count += 1
        self.largest = max(self.largest, seconds)

    def at(self, *shares: float) -> tuple[float, ...]:
        """Return the quantiles in seconds; NaN without values."""
        if not self.count:
            return (math.nan,) * len(shares)
        seen = np.cumsum(self._counts)
        places = [int(np.searchsorted(seen, share * self.count)) for share in shares]
        return tuple(LEAST * 10 ** (place / PER_DECADE) for place in places)


def _before_import() -> float:
    """Seconds from the process's start to the import of this module; 0 where the kernel's figure is not plausible.

    Both clocks count from boot and run through suspend, so that setting the wall clock does not matter. Emulators and
    restored virtual machines may still give a start time of another clock.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return seconds if 0 <= seconds <= LONGEST_START else 0.0


_IMPORTED, _BEFORE_IMPORT = time.monotonic(), _before_import()


def since_process_start() -> float:
    """Seconds since the kernel started this process, or, where that is not known, since this module was imported."""
    return time.monotonic() - _IMPORTED + _BEFORE_IMPORT


def resident(process: int | None = None) -> float | None:
    """Return the resident memory of a process (default: this one) in MB; None where the kernel does not report it."""
    try:
        return int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return None
