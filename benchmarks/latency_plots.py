"""The two pictures of a latency report: what a step is made of, and how its times are spread.

    draw_budget(steps_table, 97.5, folder / "budget.png")
    draw_distributions([("f0 u8", "u8", times), ...], 97.5, folder / "distribution.png")

matplotlib is imported when one is drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.schema import Measured, Table
from benchmarks.timing import Times
from runtime.support.atomic import atomic_file

DPI = 100
WIDTH, ROW = 8.0, 0.28  # inches
COLOURS = {"torch": "tab:gray", "float": "tab:blue", "s8": "tab:purple", "u8": "tab:orange", "peer": "tab:green"}
OTHER = "tab:red"  # TensorRT
FEATURES, NETWORK, REST = "tab:green", "tab:blue", "tab:gray"


def draw_budget(steps: Table, budget: float, path: Path) -> None:
    """Bars of features, network and the rest, one for a row of the table."""
    rows = steps.records()
    figure, axes = _figure(len(rows))
    labels, left = [], [0.0] * len(rows)
    parts: dict[str, list[float]] = {"features": [], "network": [], "what joins them": []}
    for row in rows:
        features, network, step = (_value(row[name]) for name in ("features", "network", "step"))
        # A bar is as long as the step's median: medians of its parts, measured alone, need not add up to it.
        whole, before = (network or 0.0, 0.0) if step is None else (step, features or 0.0)
        inner = min(network or 0.0, max(0.0, whole - before))
        for name, value in zip(parts, (before, inner, whole - before - inner), strict=True):
            parts[name].append(value)
        more = f", {row['threads']} threads" if row["threads"] != 1 else ""
        labels.append(f"{row['model']} {row['form']}{more}")
    places = range(len(rows))
    for (name, values), colour in zip(parts.items(), (FEATURES, NETWORK, REST), strict=True):
        axes.barh(places, values, left=left, color=colour, label=name, height=0.7)
        left = [before + value for before, value in zip(left, values, strict=True)]
    for place, total in zip(places, left, strict=True):
        text = axes.annotate(
            f"{total:.1f}", (total, place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.axvline(budget, color="tab:red", linestyle="--", label=f"between two scores, {budget:.1f} ms")
    axes.set_xlim(0, 1.12 * max(budget, *left))
    axes.set_xlabel("ms, median")
    _finish(figure, axes, labels, path)


def draw_distributions(cases: Sequence[tuple[str, str, Times]], budget: float, path: Path) -> None:
    """A box for every case on a logarithmic axis."""
    figure, axes = _figure(len(cases))
    for place, (_, form, times) in enumerate(cases):
        low, first, middle, third, high = (1000 * times.percentile(percent) for percent in (1, 25, 50, 75, 99))
        axes.hlines(place, low, high, color="black", linewidth=1)
        # Bars by hand: bxp() calls its orientation by another name from one matplotlib to the next.
        axes.barh(place, third - first, left=first, height=0.6, color=COLOURS.get(form, OTHER), edgecolor="black")
        axes.vlines(middle, place - 0.3, place + 0.3, color="black", linewidth=2)
        axes.plot(1000 * times.sorted[-1], place, "k.", markersize=4)
    axes.set_xscale("log")
    axes.axvline(budget, color="tab:red", linestyle="--", label=f"between two scores, {budget:.1f} ms")
    axes.set_xlabel("ms")
    _finish(figure, axes, [label for label, _, _ in cases], path)


def _figure(rows: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(WIDTH, 1.6 + ROW * rows), layout="constrained")


def _finish(figure: Any, axes: Any, labels: Sequence[str], path: Path) -> None:
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    pyplot.close(figure)


def _value(cell: Any) -> float | None:
    return cell.value if isinstance(cell, Measured) else cell
