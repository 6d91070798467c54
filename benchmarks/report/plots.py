"""Plots for reports: DET curves, latencies, memory, scatter.

draw_det({"corpus 1": {"f0": table, "aasist": other}}, folder / "det.png", dashed=["aasist"])
draw_latencies({"f0 u8": milliseconds}, folder / "distribution.png", "ms of a step", "share of runs")

matplotlib is imported when one is drawn.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.report.schema import Cell, Measured
from runtime.support.atomic import atomic_file
from runtime.support.extras import require_package
from train.evaluate.metrics import Floats, det_curve, equal_error
from train.evaluate.scorefile import ScoreTable

DPI = 110
TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a DET axis


@contextmanager
def axes_for(path: Path, width: float = 6.4, height: float = 3.6, panels: int = 1) -> Iterator[Any]:
    """Axes of a new figure, in inches, that is saved to `path` at the end; a list of them for several panels."""
    require_package("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, panels, squeeze=False)[0].tolist()
    yield every if panels > 1 else every[0]
    for axes in every:
        axes.grid(color="0.9", which="both")
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")


def draw_det(panels: Mapping[str, Mapping[str, ScoreTable]], path: Path, dashed: Collection[str] = ()) -> None:
    """Miss against false alarm on probit axes, where two normal distributions give a straight line; by panel."""
    with axes_for(path, 5.6 * len(panels) + 0.8, 6.0, len(panels)) as every:
        for axes, (title, tables) in zip(every if len(panels) > 1 else [every], panels.items(), strict=True):
            _draw_curves(axes, tables, dashed)
            axes.set_title(title)


def _draw_curves(axes: Any, tables: Mapping[str, ScoreTable], dashed: Collection[str]) -> None:
    probit = NormalDist().inv_cdf
    rarest, ends = 0.2, [0.5]
    for name, table in tables.items():
        curve = det_curve(table.bonafide, table.spoof)
        rate, _ = equal_error(curve)
        inside = (curve.miss > 0) & (curve.miss < 1) & (curve.false_alarm > 0) & (curve.false_alarm < 1)
        x, y = _corners(curve.false_alarm[inside], curve.miss[inside])
        (line,) = axes.plot(
            [probit(v) for v in x],
            [probit(v) for v in y],
            "--" if name in dashed else "-",
            label=f"{name}: EER {rate:.2%}",
        )
        if 0 < rate < 1:
            axes.plot(probit(rate), probit(rate), "o", color=line.get_color(), markersize=5)
        errors = np.concatenate([x, y]).tolist()  # none of a system without an error
        rarest, ends = min([rarest, *errors]), [*ends, *errors]
    low = max([tick for tick in TICKS if tick <= rarest], default=TICKS[0])
    high = min([tick for tick in TICKS if tick >= min(max(ends), 0.9)], default=TICKS[-1])
    ticks = [tick for tick in TICKS if low <= tick <= high]
    span = probit(low), probit(high)
    axes.plot(span, span, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=span, ylim=span, xlabel="spoofs accepted (false alarm), %", ylabel="bona fide refused (miss), %")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([probit(tick) for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.set_aspect("equal")


def _corners(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The corners of a staircase: of 70,000 trials most points lie on straight pieces."""
    turns = np.ones(len(x), bool)
    turns[1:-1] = ((x[1:-1] != x[:-2]) | (x[1:-1] != x[2:])) & ((y[1:-1] != y[:-2]) | (y[1:-1] != y[2:]))
    return x[turns], y[turns]


def draw_latencies(milliseconds: Mapping[str, Sequence[float]], path: Path, label: str, share: str) -> None:
    """Cumulative distribution of latencies on a logarithmic axis."""
    with axes_for(path, 6.4, 4.0) as axes:
        for name, values in milliseconds.items():
            if len(values):
                ordered = np.sort(np.asarray(values))
                shares = np.arange(len(ordered) + 1) / len(ordered)
                axes.plot(np.concatenate((ordered[:1], ordered)), shares, drawstyle="steps-post", label=name)
        axes.set(xlabel=label, ylabel=share, ylim=(0, 1.02), xscale="log")


def draw_trade(rows: Sequence[Mapping[str, Cell]], path: Path) -> None:
    """Fakes found against false alarms per hour, a line for each model and a point for each threshold."""
    with axes_for(path, 7.0, 4.6) as axes:
        for model in dict.fromkeys(str(row["model"]) for row in rows):
            mine = [row for row in rows if row["model"] == model]
            x, y = ([cell.value for row in mine if isinstance(cell := row[name], Measured)]
                    for name in ("false alarms", "found"))  # fmt: skip
            axes.plot(x, y, "o-", markersize=4, label=model)
            labels = {(a, b): str(row["sure"]) for row, a, b in zip(mine[::-1], x[::-1], y[::-1], strict=True)}
            for point, sure in labels.items():  # of equal points the lowest threshold
                axes.annotate(sure, point, (4, -9), textcoords="offset points", fontsize="x-small")
        axes.set(xlabel="false alarms per hour of real speech", ylabel="fakes found, %", ylim=(0, 102))
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(left=-0.1)
