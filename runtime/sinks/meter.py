"""Live view on a terminal: verdict, history, level, spectrum and faults of the input.

    SPOOF          P(spoof) 0.86  LLR -1.83                        0:02:13  headset
    real ------------------------------------------------O---- fake
    last 58 s      ......,,,::;;++xx##@@##xx++;;::,,......
    level          ==================|                 -23 dBFS
    0-407 Hz       .:-=+*#%@#*+=-:.
    18.3 ms late   0.0 s lost in 0 gaps   no faults seen

Redrawn REDRAWN times a second and no wider than the terminal, so that ssh carries it; colour is never the only sign.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples
from runtime.audio.quality import FLAGS
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.lines import numbers
from runtime.summary import Summary
from runtime.verdict import Verdict

REDRAWN = 8  # times a second
WIDEST = 100  # columns; longer bars show no more
LABEL = 16  # columns before a bar
BLOCKS, ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*#@"  # nine heights; ASCII for terminals without UTF-8
QUIETEST = -72.0  # dBFS, the left end of the level's bar
SPECTRUM_RANGE = 50.0  # dB that the spectrum's bars span
STYLES = {"spoof": "bold red", "bonafide": "bold green", "unsure": "bold yellow"}
NOTES = 2  # last notes shown
STILL = 1.5  # s without sound after which the view shows that


class LiveView(ABC):
    """A view that is redrawn in place, and the newest notes for it."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, screen=False)
        self._drawn = 0.0
        self._notes: deque[str] = deque(maxlen=NOTES)

    @abstractmethod
    def view(self, width: int) -> Any:
        """Return the view as rich text, no line wider than `width`."""

    def draw(self, at_least: float = 0.0) -> None:
        """Redraw, unless the view was drawn less than `at_least` seconds ago."""
        if time.monotonic() - self._drawn >= at_least:
            self._drawn = time.monotonic()
            self._live.update(self.view(min(self._console.width, WIDEST)), refresh=True)

    def note(self, text: str) -> None:
        self._notes.append(f"{time.strftime('%H:%M:%S')} {text}")
        self.draw()

    def close(self) -> None:
        self._live.stop()


class Meter(LiveView, Sink):
    """Draws while sound arrives, prints the summary at the end."""

    def begin(self, info: StreamInfo) -> None:
        self._info = info
        self._verdict: Verdict | None = None
        self._history: deque[float | None] = deque(maxlen=WIDEST)  # P(spoof), one a second
        self._latency: float | None = None
        self._lost, self._gaps = 0.0, 0
        self._began = self._last_sound = time.monotonic()
        self._second = -1
        self._blocks = BLOCKS if self._console.encoding.lower().startswith("utf") else ASCII
        self._live.start()
        self.draw()

    def sound(self, samples: Samples) -> None:
        if len(samples):
            self._last_sound = time.monotonic()
        self.draw(1 / REDRAWN)

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._verdict, self._latency = verdict, latency
        if int(verdict.time) != self._second:
            self._second = int(verdict.time)
            self._history.append(verdict.p_spoof)

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self._lost, self._gaps = self._lost + lost, self._gaps + 1

    def end(self, summary: Summary) -> None:
        self._live.stop()
        self._console.print(summary.line(), markup=False)
        if summary.verdicts:
            self._console.print(summary.costs(), markup=False)

    def view(self, width: int) -> Any:
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop")
        bar, verdict = max(1, width - LABEL - 12), self._verdict

        def row(label: str, content: str, style: str = "", label_style: str = "") -> None:
            text.append(f"{label:<{LABEL}}", label_style or style).append(f"{content}\n", style)

        if verdict is None:
            row("LISTENING", "a first impression after 1 s of voice, a verdict after 5 s of sound", label_style="bold")
        else:
            style, level, (low, high) = STYLES.get(verdict.state, "bold"), verdict.quality.level, self._info.band
            row(verdict.state.upper(), f"{numbers(verdict)}  {verdict.voiced:.1f} s of voice", label_style=style)
            row("real ... fake", pointer(verdict.p_spoof, bar))
            row(f"last {len(self._history)} s", self._columns(list(self._history)[-bar:], 0, 1))
            row("level", f"{filled(1 - level / QUIETEST, bar)} {level:4.0f} dBFS")
            row(f"{low:.0f}-{high:.0f} Hz", self._spectrum(verdict.quality.spectrum, bar))
        late = "" if self._latency is None else f"{1000 * self._latency:.0f} ms late, "
        clock = elapsed(time.monotonic() - self._began)
        row(clock, f"{late}{self._lost:.1f} s lost in {self._gaps} gaps, {self._info.label}")
        for flag in verdict.quality.flags if verdict else ():
            row(f"! {flag}", FLAGS[flag], "bold yellow")
        if (still := self._drawn - self._last_sound) > STILL:
            row("! no sound", f"nothing arrives for {still:.0f} s", "bold yellow")
        for note in self._notes:
            text.append(note + "\n", "dim")
        text.append(f"{self._info.model} with {self._info.engine}, Ctrl-C ends", "dim")
        return text

    def _columns(self, values: Sequence[float | None], low: float, high: float) -> str:
        """Return one bar for each value, a blank for None."""
        steps = len(self._blocks) - 1
        shares = (None if value is None else min(max((value - low) / (high - low), 0.0), 1.0) for value in values)
        return "".join(" " if share is None else self._blocks[round(share * steps)] for share in shares)

    def _spectrum(self, decibels: NDArray[np.float64], width: int) -> str:
        """Return the voice's mean spectrum within the model's band as bars."""
        bins = np.arange(len(decibels)) * (self._info.rate / 2) / (len(decibels) - 1)
        heights = np.interp(np.linspace(*self._info.band, width), bins, decibels)
        top = float(np.max(heights))
        return self._columns(heights.tolist(), top - SPECTRUM_RANGE, top)


def elapsed(seconds: float) -> str:
    """Format seconds as 0:02:13."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def pointer(share: float | None, width: int) -> str:
    """Return a line with a probability's place between both ends, and a mark in the middle."""
    line = ["-"] * width
    line[width // 2] = "+"
    if share is not None:
        line[min(width - 1, int(share * width))] = "O"
    return "".join(line)


def filled(share: float, width: int) -> str:
    """Return a bar that is filled to a share of its width."""
    count = int(min(max(share, 0.0), 1.0) * width)
    return "=" * count + " " * (width - count)
