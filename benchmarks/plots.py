"""Pictures for reports: DET curves, score histograms, latencies, memory. matplotlib is imported when one is drawn.

draw_det({"f0": table, "wide": other}, folder / "det.png")
draw_histogram(table, folder / "f0.png", "f0", threshold=0.3)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from runtime.support.atomic import atomic_file
from runtime.support.extras import require_package
from train.evaluate.metrics import Floats, det_curve, equal_error
from train.evaluate.scorefile import ScoreTable

DPI = 120
TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a DET axis
BINS = 15, 60  # of a histogram: few trials in many bins are all noise
BONAFIDE, SPOOF = "tab:blue", "tab:orange"  # tell apart for all eyes


def figure(width: float, height: float) -> tuple[Any, Any, Any]:
    """pyplot without a screen, a figure and its axes."""
    require_package("matplotlib").use("Agg")
    from matplotlib import pyplot

    return pyplot, *pyplot.subplots(figsize=(width, height), layout="constrained")


def save(pyplot: Any, drawn: Any, path: Path) -> None:
    with atomic_file(path) as temporary:
        drawn.savefig(temporary, dpi=DPI)
    pyplot.close(drawn)


def draw_det(tables: Mapping[str, ScoreTable], path: Path) -> None:
    """Miss against false alarm on probit axes, where two bells give a straight line."""
    probit = NormalDist().inv_cdf
    pyplot, drawn, axes = figure(6.4, 6.0)
    rarest, ends = 0.2, [0.5]
    for name, table in tables.items():
        curve = det_curve(table.bonafide, table.spoof)
        rate, _ = equal_error(curve)
        inside = (curve.miss > 0) & (curve.miss < 1) & (curve.false_alarm > 0) & (curve.false_alarm < 1)
        if inside.any():  # a system without an error has no curve
            x, y = _thinned(curve.false_alarm[inside], curve.miss[inside])
            (line,) = axes.plot(
                [probit(v) for v in x], [probit(v) for v in y], drawstyle="default", label=f"{name}: EER {rate:.2%}"
            )
            if 0 < rate < 1:
                axes.plot(probit(rate), probit(rate), "o", color=line.get_color(), markersize=5)
            rarest = min(rarest, float(x.min()), float(y.min()))
            ends += [float(x.max()), float(y.max())]
        else:
            axes.plot([], [], " ", label=f"{name}: EER {rate:.2%}")
    low = max([tick for tick in TICKS if tick <= rarest], default=TICKS[0])
    high = min([tick for tick in TICKS if tick >= min(max(ends), 0.9)], default=TICKS[-1])
    ticks = [tick for tick in TICKS if low <= tick <= high]
    span = probit(low), probit(high)
    axes.plot(span, span, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=span, ylim=span, xlabel="spoofs accepted (false alarm), %", ylabel="bona fide refused (miss), %")
    names = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks([probit(tick) for tick in ticks], names)
    axes.set_yticks([probit(tick) for tick in ticks], names)
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.legend(loc="upper right", fontsize="small")
    save(pyplot, drawn, path)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Only the corners of a staircase of 70,000 trials: what lies on a straight piece is not drawn."""
    turns = np.ones(len(x), bool)
    turns[1:-1] = ((x[1:-1] != x[:-2]) | (x[1:-1] != x[2:])) & ((y[1:-1] != y[:-2]) | (y[1:-1] != y[2:]))
    return x[turns], y[turns]


def draw_histogram(table: ScoreTable, path: Path, title: str, unit: str = "score", threshold: float = 0.0) -> None:
    """Density of the scores of each class; the line is where a verdict would turn."""
    pyplot, drawn, axes = figure(6.4, 3.6)
    edges = np.histogram_bin_edges(table.score, int(np.clip(1.3 * np.sqrt(len(table.score)), *BINS)))
    for name, scores, colour in (("bona fide", table.bonafide, BONAFIDE), ("spoof", table.spoof, SPOOF)):
        label = f"{name} ({len(scores):,})"
        axes.hist(scores, edges, density=True, alpha=0.55, color=colour, label=label)
    axes.axvline(threshold, color="0.2", linewidth=1, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(xlabel=f"{unit}: higher means bona fide", ylabel="density of each class", title=title)
    axes.legend(fontsize="small")
    save(pyplot, drawn, path)


SPOKEN = "from the sample being spoken to its verdict, ms"


def draw_latencies(milliseconds: Mapping[str, Sequence[float]], path: Path, label: str = SPOKEN) -> None:
    """Share of verdicts that came within so many milliseconds."""
    pyplot, drawn, axes = figure(6.4, 3.6)
    for name, values in milliseconds.items():
        if not values:
            continue
        ordered = np.sort(np.asarray(values))
        shares = np.arange(len(ordered) + 1) / len(ordered)
        axes.plot(np.concatenate((ordered[:1], ordered)), shares, drawstyle="steps-post", label=name)
    axes.set(xlabel=label, ylabel="share of verdicts", ylim=(0, 1.02))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "23457" else "")
    axes.grid(color="0.9", which="both")
    axes.legend(fontsize="small", loc="lower right")
    save(pyplot, drawn, path)


def draw_memory(hours: Floats, megabytes: Floats, fit: tuple[float, float] | None, begin: float, path: Path) -> None:
    """Resident memory over streamed time; `fit` is slope and height at 0 of the line from `begin` on."""
    pyplot, drawn, axes = figure(6.4, 3.6)
    axes.plot(hours, megabytes, color=BONAFIDE, linewidth=1, label="resident")
    if fit is not None:
        ends = np.array([begin, hours[-1]])
        axes.plot(ends, fit[0] * ends + fit[1], color=SPOOF, linestyle="--", label=f"{fit[0]:+.3f} MB per hour")
    axes.set(xlabel="sound streamed, hours", ylabel="MB", ylim=(0, 1.15 * float(megabytes.max())))
    axes.grid(color="0.9")
    axes.legend(fontsize="small", loc="lower right")
    save(pyplot, drawn, path)
