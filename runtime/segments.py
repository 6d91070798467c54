"""Segments: from when to when a recording was judged fake.

    segments = Segments(window=4.98, sure=0.9)
    segments.add(verdict.time, verdict.p_spoof)
    for segment in segments.finish():
        print(segment)                              # spoof 20.1-31.0 s (peak P 0.97)

A score covers the whole window that ends at its time, so P(spoof) rises late and falls late. A fake passage that begins
at b reaches half of the window at b + window / 2; the same holds for its end. Both ends are moved back by that half.

    sound      real real real |fake fake fake fake| real real
    P(spoof)   ______________________/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\\_______
                              |<--->| half a window    |<--->|

Of verdicts a second or more apart, P(spoof) is taken to cross one half midway between two of them, and to be above it
from the start of a window before which nothing was judged.
"""

from dataclasses import dataclass

MERGED = 0.5  # s; a shorter pause between two segments does not separate them
COARSE = 1.0  # s between verdicts from which on that interval counts
MOST = 1000  # segments of one stream; later ones extend the last, so that memory does not grow


@dataclass(frozen=True)
class Segment:
    """One passage judged as spoof."""

    start: float  # s since the stream began
    end: float  # s
    peak: float  # highest P(spoof) within

    def __str__(self) -> str:
        return f"spoof {self.start:.1f}-{self.end:.1f} s (peak P {self.peak:.2f})"


class Segments:
    """Collects segments while verdicts arrive, in order of time."""

    def __init__(self, window: float, sure: float, interval: float = 0.0) -> None:
        """`window`: seconds of sound behind one score; `sure`: P(spoof) that opens a segment, left at one half;
        `interval`: seconds between verdicts."""
        self._coarse = interval >= COARSE
        self._shift, self._sure = (window + interval * self._coarse) / 2, sure
        self._judged = False  # whether the verdict before was
        self._closed: list[Segment] = []
        self._begun: float | None = None  # s, uncorrected, of the open segment
        self._peak = 0.0
        self._crossed = 0.0  # s, when P(spoof) last rose above one half
        self._above = False
        self._last = 0.0  # s, of the newest verdict

    def add(self, time: float, p_spoof: float | None, window_start: float = 0.0) -> None:
        """One verdict; None where nothing was judged. `window_start`: s, first sample behind it."""
        self._last = time
        before, self._judged = self._judged, p_spoof is not None
        if p_spoof is None or p_spoof < 0.5:
            self._above = False
            self._close(time)
            return
        if not self._above:
            self._above, self._crossed = True, time
            if self._coarse and not before:
                self._crossed = window_start + self._shift
            self._first = window_start
        self._peak = max(self._peak, p_spoof) if self._begun is not None else p_spoof
        if self._begun is None and p_spoof >= self._sure:
            self._begun = self._crossed
            self._floor = self._first
            self._peak = p_spoof

    def finish(self, end: float | None = None) -> tuple[Segment, ...]:
        """All segments; one that is still open lasts until `end`, the length of the stream."""
        if self._begun is not None:
            self._append(self._corrected(), self._last if end is None else end)
            self._begun = None
        return tuple(self._closed)

    def _close(self, time: float) -> None:
        if self._begun is not None:
            start = self._corrected()
            self._append(start, max(time - self._shift, start))
            self._begun = None

    def _corrected(self) -> float:
        assert self._begun is not None
        return max(self._begun - self._shift, self._floor, 0.0)

    def _append(self, start: float, end: float) -> None:
        last = self._closed[-1] if self._closed else None
        if last and (start - last.end < MERGED or len(self._closed) == MOST):
            self._closed[-1] = Segment(last.start, max(end, last.end), max(last.peak, self._peak))
        else:
            self._closed.append(Segment(start, end, self._peak))
        self._peak = 0.0
