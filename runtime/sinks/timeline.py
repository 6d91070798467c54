"""Plot of one file: waveform, the model's bands, and log-likelihood ratios over time.

    python -m runtime.stream --file call.flac --plot call.png

The sound of the file, an hour at most, is held in memory. matplotlib is loaded after the file has ended, so that no
verdict waits for it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from runtime.audio.features import FrontEnd, Samples
from runtime.sinks import Sink
from runtime.summary import Summary
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package
from runtime.verdict import Verdict

POINTS = 4000  # of the waveform: more than a plot has columns
COLUMNS = 1000  # of the bands, about as many as a plot has
COLOURS = {"spoof": "tab:red", "bonafide": "tab:green", "unsure": "tab:orange"}
ENDINGS = (".png", ".pdf", ".svg")


class Timeline(Sink):
    """Draws the plot after the file has ended."""

    def __init__(self, path: Path, frontend: FrontEnd) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise ShrikeError(f"--plot {path}: expected a name that ends in {', '.join(ENDINGS)}")
        require_package("matplotlib")  # before a long stream, not after it
        self._path, self._frontend = path, frontend
        self._sound: list[Samples] = []
        self._verdicts: list[Verdict] = []

    def sound(self, samples: Samples) -> None:
        self._sound.append(samples)

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._verdicts.append(verdict)

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
        self._draw_scores(scores)
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
        times, edges = np.linspace(0, seconds, len(frames) + 1), np.arange(self._frontend.bands + 1)
        axes.pcolormesh(times, edges, frames.T, cmap="magma", rasterized=True)
        axes.set(ylabel="band")

    def _draw_scores(self, axes: Any) -> None:
        times = [verdict.time for verdict in self._verdicts]
        axes.plot(times, [verdict.llr for verdict in self._verdicts], color="lightgray", label="window")
        axes.plot(times, [verdict.smoothed for verdict in self._verdicts], color="black", label="mean")
        for state, colour in COLOURS.items():
            chosen = [verdict for verdict in self._verdicts if verdict.state == state]
            if chosen:
                axes.plot([v.time for v in chosen], [v.smoothed for v in chosen], ".", color=colour, label=state)
        axes.axhline(0, color="gray", linewidth=0.5)
        axes.set(xlabel="s", ylabel="LLR: fake < 0 < real")
        axes.legend(loc="best", fontsize=8)
