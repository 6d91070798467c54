"""Plots for reports; matplotlib is imported when one is drawn.

draw_det({"corpus 1": {"f0": table, "aasist": other}}, folder / "det.png", dashed=["aasist"])
draw_latencies({"f0 u8": milliseconds}, folder / "distribution.png", "ms of a step", "runs")
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
from train.evaluate.metrics import det_curve, equal_error
from train.evaluate.scorefile import ScoreTable

DPI = 110
TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a DET axis


@contextmanager
def axes_for(path: Path, width: float, height: float, panels: int = 1) -> Iterator[list[Any]]:
    """The axes of a new figure's panels, in inches; it is saved to `path` at the end."""
    require_package("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, panels, squeeze=False)[0].tolist()
    yield every
    for axes in every:
        axes.grid(color="0.9", which="both")
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")


def draw_det(panels: Mapping[str, Mapping[str, ScoreTable]], path: Path, dashed: Collection[str] = ()) -> None:
    """Miss against false alarm on probit axes, where two normal distributions give a straight line; by panel."""
    probit = np.vectorize(NormalDist().inv_cdf, otypes=[float])  # also of none
    with axes_for(path, 5.6 * len(panels) + 0.8, 6.0, len(panels)) as every:
        for axes, (title, tables) in zip(every, panels.items(), strict=True):
            seen = [0.2, 0.5]  # rates that the axes show
            for name, table in tables.items():
                curve = det_curve(table.bonafide, table.spoof)
                rate, _ = equal_error(curve)
                inside = (curve.miss > 0) & (curve.miss < 1) & (curve.false_alarm > 0) & (curve.false_alarm < 1)
                x, y = curve.false_alarm[inside], curve.miss[inside]
                label = f"{name}: EER {rate:.2%}"
                (line,) = axes.plot(*(probit(v) for v in (x, y)), "--" if name in dashed else "-", label=label)
                if 0 < rate < 1:
                    axes.plot(probit(rate), probit(rate), "o", color=line.get_color(), markersize=5)
                seen += [*x, *y]
            low = max([tick for tick in TICKS if tick <= min(seen)], default=TICKS[0])
            high = min([tick for tick in TICKS if tick >= min(max(seen), TICKS[-1])])
            ticks = [tick for tick in TICKS if low <= tick <= high]
            span = probit([low, high])
            axes.plot(span, span, color="0.8", linewidth=0.8, zorder=0)
            axes.set(xlim=span, ylim=span, xlabel="spoofs accepted (false alarm), %", title=title)
            axes.set(ylabel="bona fide refused (miss), %", aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(probit(ticks), [f"{100 * tick:g}" for tick in ticks])


def draw_latencies(milliseconds: Mapping[str, Sequence[float]], path: Path, label: str, of: str) -> None:
    """Cumulative distribution of latencies on a logarithmic axis."""
    with axes_for(path, 6.4, 4.0) as (axes,):
        for name, values in milliseconds.items():
            if len(values):
                ordered = np.sort(np.asarray(values))
                shares = np.arange(len(ordered) + 1) / len(ordered)
                axes.plot(np.concatenate((ordered[:1], ordered)), shares, drawstyle="steps-post", label=name)
        axes.set(xlabel=label, ylabel=f"share of {of}", ylim=(0, 1.02), xscale="log")


def draw_trade(rows: Sequence[Mapping[str, Cell]], path: Path) -> None:
    """Fakes found against false alarms per hour, a line for each model and a point for each threshold."""
    with axes_for(path, 7.0, 4.6) as (axes,):
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
