"""What the program costs, in memory that does not grow however long it runs.

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
PER_DECADE = 40  # bins: an answer is right to 3 %


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
        """Seconds that so large a share of the values stays below; NaN without values."""
        if not self.count:
            return (math.nan,) * len(shares)
        seen = np.cumsum(self._counts)
        places = [int(np.searchsorted(seen, share * self.count)) for share in shares]
        return tuple(LEAST * 10 ** (place / PER_DECADE) for place in places)


def since_process_start() -> float | None:
    """Seconds since the kernel started this process; None where it does not say."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def resident(process: int | None = None) -> float | None:
    """MB of memory that a process holds now, this one unless told otherwise; None where the kernel does not say."""
    try:
        return int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return None
