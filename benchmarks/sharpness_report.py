"""What benchmarks.sharpness found, as a report: one table for all sources together, one by source, and a scatter plot.

matplotlib is imported when it is drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.landscape import Rise, bootstrap_spearman, spearman
from benchmarks.report import Column, Measured, Plot, Report, Table, new_report
from benchmarks.sharpness import Options
from runtime.support.atomic import atomic_file
from train.evaluate.bootstrap import interval_of, resampled_eers
from train.evaluate.metrics import Bools, Floats, eer, ranked
from train.evaluate.scorefile import ScoreTable

FEWEST_SOURCES = 4  # for a rank correlation


def compose(
    options: Options, table: ScoreTable, sources: dict[str, str], rises: dict[str, list[Rise]],
    machine: dict[str, Any], conditions: dict[str, Any], folder: Path,
) -> Report:  # fmt: skip
    """Tables, notes and the picture."""
    named = np.array([sources.get(name, "") for name in table.utterance])
    rows, resampled = [], []
    for source, found in rises.items():
        cells, eers = row_of(table, named == source, found, options)
        rows.append({"source": source, **cells})
        resampled.append(eers)
    overall = row_of(table, ~table.is_bonafide, [rise for found in rises.values() for rise in found], options)[0]
    overall["rank correlation"] = correlation(rows, list(rises.values()), resampled, options)
    columns = (
        Column("spoofs"), Column("batches"), Column("sharpness", "", "lower", digits=4), Column("random", digits=4),
        Column("largest", digits=4), Column("loss", "", "lower", digits=3), Column("EER", "%", "lower", digits=1),
    )  # fmt: skip
    whole = Table.of(
        "overall", "All sources together",
        "Rank correlation (Spearman) of the sources' sharpness with their EER; its interval draws sources, their "
        "batches and their trials anew.",
        (Column("model", key=True), *columns, Column("rank correlation", digits=2)),
        [{"model": options.model.name, **overall}],
    )  # fmt: skip
    parts = Table.of(
        "sources", "Source by source",
        f"Sharpness: rise of the loss at rho = {options.rho:g} up the gradient of each batch of {options.batch} "
        "trials, mean over batches. random, largest: over random directions of the same length.",
        (Column("source", key=True), *columns), rows,
    )  # fmt: skip
    draw(parts, whole, folder / "sharpness.png")
    left = sorted(set(sources.values()) - set(rises))
    notes = [
        "Intervals of a source draw its batches anew, in the directions that were found; sources of a few clips have "
        "wide ones, of one batch none.",
        "All sources share the bona fide trials: their EERs are not independent of each other.",
        "Figures of one corpus do not transfer to another.",
    ]
    beyond = [source for source, found in rises.items() if any(rise.ascent < 0 for rise in found)]
    if beyond:
        notes.insert(
            0,
            f"rho = {options.rho:g} up the gradient ends below where it began in batches of {', '.join(beyond)}: "
            "the ball is wider than the gradient holds, and a smaller --rho says more of the slope",
        )
    if left:
        notes.insert(0, f"left out, with fewer than {options.batch // 2} spoofs: {', '.join(left)}")
    plots = [Plot("sharpness.png", "Sharpness and EER of every source, with 95 % intervals; large dots: many spoofs.")]
    return new_report(
        "sharpness", f"Sharpness of {options.model.name}", machine, conditions, [whole, parts], notes, plots
    )


def row_of(table: ScoreTable, chosen: Bools, rises: list[Rise], options: Options) -> tuple[dict[str, Any], Floats]:
    """One row of a table, and the resampled EERs behind its interval."""
    bonafide, spoof = table.score[table.is_bonafide], table.score[chosen]
    resampled = 100 * resampled_eers(ranked(bonafide, spoof)[1], options.bootstrap, options.seed)
    cells = {
        "spoofs": len(spoof),
        "batches": len(rises),
        "sharpness": mean_of([rise.ascent for rise in rises], options),
        "random": mean_of([rise.mean for rise in rises], options),
        "largest": mean_of([rise.largest for rise in rises], options),
        "loss": mean_of([rise.loss for rise in rises], options),
        "EER": Measured(100 * eer(bonafide, spoof), *interval_of(resampled)),
    }
    return cells, resampled


def mean_of(values: list[float], options: Options) -> Measured:
    """Over batches, with its bootstrap interval where there are several."""
    if len(values) == 1:
        return Measured(values[0], rounds=tuple(values))
    rng = np.random.default_rng(options.seed)
    means = rng.choice(values, (options.bootstrap, len(values))).mean(axis=1)
    return Measured(float(np.mean(values)), *interval_of(means), rounds=tuple(values))


def correlation(
    rows: list[dict[str, Any]], rises: list[list[Rise]], eers: list[Floats], options: Options
) -> Measured | None:
    """Of sharpness and EER over sources; None for fewer than FEWEST_SOURCES, or where one of the two is constant."""
    value = spearman(*(np.array([row[name].value for row in rows]) for name in ("sharpness", "EER")))
    if len(rows) < FEWEST_SOURCES or not np.isfinite(value):
        return None
    by_batch = [np.array([rise.ascent for rise in found]) for found in rises]
    return Measured(value, *interval_of(bootstrap_spearman(by_batch, eers, options.bootstrap, options.seed)))


def draw(sources: Table, overall: Table, path: Path) -> None:
    """EER over sharpness, one dot a source."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row in sources.records():
        x, y, spoofs = row["sharpness"], row["EER"], row["spoofs"]
        assert isinstance(x, Measured) and isinstance(y, Measured) and isinstance(spoofs, int)
        spread = [
            None if part.low is None or part.high is None else [[part.value - part.low], [part.high - part.value]]
            for part in (x, y)
        ]
        axes.errorbar(x.value, y.value, spread[1], spread[0], color="tab:gray", linewidth=0.7, zorder=1)
        axes.scatter(x.value, y.value, s=6 * spoofs, alpha=0.7, zorder=2)
        axes.annotate(str(row["source"]), (x.value, y.value), (4, 4), textcoords="offset points", fontsize="small")
    found = overall.records()[0]["rank correlation"]
    title = overall.records()[0]["model"]
    if isinstance(found, Measured) and found.low is not None:
        title = f"{title}: rank correlation {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    axes.set(title=title, xlabel="sharpness: rise of the loss", ylabel="EER against all bona fide, %")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
