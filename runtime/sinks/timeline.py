"""Plot of one file: waveform, front-end bands in Hz, P(spoof) over time with thresholds, states and spoof segments.

    python -m runtime.stream --file call.flac --plot call.png

The sound of the file, an hour at most, is held in memory. matplotlib is loaded after the file has ended, so that no
verdict waits for it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from runtime.audio.features import FrontEnd, Samples
from runtime.sinks import Sink, StreamInfo
from runtime.summary import Summary
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package
from runtime.verdict import State, Verdict

POINTS = 4000  # of the waveform: more than a plot has columns
COLUMNS = 1000  # of the bands, about as many as a plot has
COLOURS = {
    "spoof": "tab:red",
    "bonafide": "tab:green",
    "unsure": "tab:orange",
    "warming-up": "tab:blue",
    "too-short": "silver",
    "no-voice": "gainsboro",
}
LONGEST = 3_600.0  # s of sound that a plot shows: 230 MB
ENDINGS = (".png", ".pdf", ".svg")


class Timeline(Sink):
    """Draws the plot after the file has ended."""

    def __init__(self, path: Path, frontend: FrontEnd) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise ShrikeError(f"--plot {path}: expected a name that ends in {', '.join(ENDINGS)}")
        require_package("matplotlib")  # before a long stream, not after it
        self._path, self._frontend = path, frontend
        self._sound: list[Samples] = []
        self._seconds = 0.0  # of it
        self._verdicts: list[tuple[float, float | None, State]] = []  # time, P(spoof), state

    def begin(self, info: StreamInfo) -> None:
        self._info = info

    def sound(self, samples: Samples) -> None:
        if self._seconds < LONGEST:
            self._seconds += len(samples) / self._frontend.rate
            self._sound.append(samples)

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        if verdict.time <= LONGEST:
            self._verdicts.append((verdict.time, verdict.p_spoof, verdict.state))

    def end(self, summary: Summary) -> None:
        samples = np.concatenate([np.empty(0, np.float32), *self._sound])
        if len(samples) < self._frontend.window:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 7), layout="constrained")  # no window, no pyplot
        wave, bands, scores = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2, 2])
        seconds = len(samples) / self._frontend.rate
        self._draw_wave(wave, samples, seconds)
        self._draw_bands(bands, samples, seconds)
        self._draw_scores(scores, summary)
        figure.suptitle(summary.line(), fontsize=10, wrap=True)
        with atomic_file(self._path) as temporary:
            figure.savefig(temporary, dpi=120)

    def _draw_wave(self, axes: Any, samples: Samples, seconds: float) -> None:
        size = -(-len(samples) // POINTS)
        pieces = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
        times = np.arange(len(pieces)) * size / self._frontend.rate
        axes.fill_between(times, pieces.min(axis=1), pieces.max(axis=1), linewidth=0, color="tab:gray")
        axes.set(ylabel="waveform", xlim=(0, seconds))

    def _draw_bands(self, axes: Any, samples: Samples, seconds: float) -> None:
        """Draw a mesh: resampling an image would take 24 MB more."""
        frames = self._frontend.frames(samples)
        frames = frames[:: -(-len(frames) // COLUMNS)]
        times = np.linspace(0, seconds, len(frames) + 1)
        (low, high), centres = self._frontend.passband, self._frontend.centres
        edges = np.concatenate([[low], (centres[1:] + centres[:-1]) / 2, [high]])
        axes.pcolormesh(times, edges, frames.T, cmap="magma", rasterized=True)
        axes.set(ylabel="Hz")

    def _draw_scores(self, axes: Any, summary: Summary) -> None:
        times = np.array([time for time, _, _ in self._verdicts])
        values = np.array([np.nan if p_spoof is None else p_spoof for _, p_spoof, _ in self._verdicts])
        axes.plot(times, values, color="black", linewidth=1)
        for level, style in ((self._info.spoof_from, "--"), (0.5, ":"), (self._info.bonafide_to, "--")):
            axes.axhline(level, color="gray", linewidth=0.7, linestyle=style)
        states = [state for _, _, state in self._verdicts]
        for state, colour in COLOURS.items():
            where = np.array([one == state for one in states])
            if where.any():
                axes.fill_between(times, -0.06, -0.01, where=where, color=colour, linewidth=0, label=state, step="pre")
        for number, segment in enumerate(summary.segments):
            label = "segment" if number == 0 else None
            axes.axvspan(segment.start, segment.end, color="tab:red", alpha=0.15, linewidth=0, label=label)
        axes.set(xlabel="s", ylabel="P(spoof)", ylim=(-0.08, 1.02))
        if self._verdicts:
            axes.legend(loc="center right", fontsize=8)
