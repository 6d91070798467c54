"""How sharp a checkpoint's loss is on any trial list, source by source, and whether sharp sources are the hard ones.

    python -m benchmarks.sharpness train/models/f0.pt --corpus ../shared/corpus
    python -m benchmarks.sharpness runs/sam/model.pt --corpus /data/ASVspoof2019/LA --partition eval --by attack

A source is a family of systems (metadata.csv) or an attack (protocol); the bona fide trials are shared by all of them.
Sharpness is what benchmarks/landscape.py says; a source's EER is that of its spoofs against all bona fide.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from runtime.command import parse, run
from runtime.errors import ShrikeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.landscape import Rise
    from benchmarks.report import Measured, Report, Table
    from train.scorefile import ScoreTable

OUT = "runs/reports/sharpness-%Y%m%d-%H%M%S"
FEWEST_SOURCES = 4  # for a rank correlation


@dataclass(frozen=True)
class Options:
    """Measure the sharpness of a checkpoint, and its correlation with the EER over sources."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Which of its protocols."""
    protocol: Path | None = None
    """A protocol file instead of the corpus's own."""
    only: str = ""
    """Trials whose row in the corpus's metadata.csv says so, as in mp3=0."""
    by: str = "family"
    """What makes a source: a column of the corpus's metadata.csv, or the word attack."""
    rho: float = 0.05
    """Radius of the ball around the weights, as in training."""
    adaptive: bool = False
    """Measure the ball in each weight's size, as ASAM does (its paper takes --rho 0.5)."""
    batch: int = 8
    """Trials of one measurement, half of them bona fide; a source needs half as many spoofs."""
    directions: int = 4
    """Random directions beside the steepest one."""
    bootstrap: int = 1000
    """Resamples behind the 95 % intervals."""
    seed: int = 0
    """Draws batches, directions and resamples."""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""

    def __post_init__(self) -> None:
        for holds, sentence in [
            (self.rho > 0, f"--rho {self.rho}: a radius above 0 was expected"),
            (self.batch >= 2 and self.batch % 2 == 0, f"--batch {self.batch}: an even number was expected"),
            (self.directions > 0, f"--directions {self.directions}: at least 1"),
            (self.bootstrap > 0, f"--bootstrap {self.bootstrap}: at least 1"),
        ]:
            if not holds:
                raise ShrikeError(sentence)


def main() -> None:
    options = parse(Options, "benchmarks.sharpness", __doc__)
    from benchmarks import host
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, report_folder, write_report
    from train.checkpoint import read_checkpoint
    from train.corpus import open_corpus, select
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    checkpoint = read_checkpoint(options.model)
    partition = select(open_corpus(options.corpus, options.partition, options.protocol), options.only)
    if partition.unlabelled:
        raise ShrikeError(f"{partition.protocol} has no labels; sharpness and EER need them")
    say(partition.describe())
    sources = name_sources(partition, options.by)
    table, rises = measure(options, checkpoint, partition.trials, sources)
    conditions = {
        "model": options.model.name, "trained with": checkpoint.settings.recipe(), "partition": partition.describe(),
        "trials": partition.identity(), "source": options.by, "rho": options.rho, "adaptive": options.adaptive,
        "batch": options.batch, "random directions": options.directions, "resamples": options.bootstrap,
        "seed": options.seed, "loss": "cross-entropy of the logits", "batch norm": "statistics of training",
    }  # fmt: skip
    with report_folder(out, options.overwrite) as temporary:
        report = compose(options, table, sources, rises, host.describe(), conditions, temporary)
        write_report(temporary, report)
    print("\n\n".join(table_text(each) for each in report.tables))
    say(f"report: {out}/report.md")


def name_sources(partition: Any, by: str) -> dict[str, str]:
    """Utterance -> source, of the spoofs."""
    from train.corpus import column

    spoofs = [trial for trial in partition.trials if trial.bonafide is False]
    if by == "attack":
        return {trial.utterance: trial.attack for trial in spoofs}
    values = column(partition, by)
    return {trial.utterance: values[trial.utterance] for trial in spoofs}


def measure(
    options: Options, checkpoint: Any, trials: Any, sources: dict[str, str]
) -> tuple["ScoreTable", dict[str, list["Rise"]]]:
    """Scores of all trials, and the rises of every source's batches."""
    from dataclasses import replace

    import numpy as np

    from benchmarks.landscape import Landscape, draw_batches
    from train.augment import Augment
    from train.cache import build_cache
    from train.dataset import Windows
    from train.evaluate import score, score_table
    from train.place import find_place
    from train.progress import Progress

    settings = checkpoint.settings
    here = replace(settings.run, device=options.device, precision="fp32", threads=options.threads)
    settings = replace(settings, run=here)
    place = find_place(settings)
    cache = build_cache(settings.frontend, trials, options.cache)
    classroom = checkpoint.classroom().to(place.device)
    augment = Augment(settings.augmentation, settings.frontend).to(place.device).eval()
    table = score_table(cache, score(classroom, augment, cache, settings, place)[:, -1])

    named = np.array([sources.get(name, "") for name in table.utterance])
    spoof = {name: np.flatnonzero(named == name) for name in sorted(set(named[~table.is_bonafide].tolist()))}
    batches = draw_batches(np.flatnonzero(table.is_bonafide), spoof, options.batch, options.seed)
    landscape = Landscape(
        classroom.shipping()[0], options.rho, options.adaptive, options.directions, options.seed
    )
    windows, rises = Windows(cache), {}
    with Progress("sharpness", sum(map(len, batches.values())), "batches") as bar:
        for source, drawn in batches.items():
            rises[source] = []
            for clips in drawn:
                batch = windows[np.stack([clips, np.zeros_like(clips)], axis=1)]
                rises[source].append(
                    landscape.rise(augment(batch.features.to(place.device)), batch.target.to(place.device))
                )
                bar.advance()
    return table, {source: found for source, found in rises.items() if found}


# ---- the report ------------------------------------------------------------------------------------------------------


def compose(
    options: Options, table: "ScoreTable", sources: dict[str, str], rises: dict[str, list["Rise"]],
    machine: dict[str, Any], conditions: dict[str, Any], folder: Path,
) -> "Report":  # fmt: skip
    """Tables, notes and the picture."""
    import numpy as np

    from benchmarks.report import Column, Plot, Table, new_report

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
        f"Sharpness: rise of the loss at rho = {options.rho:g} up the gradient of each batch of {options.batch} trials, "
        "mean over batches. random, largest: over random directions of the same length.",
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
    if left:
        notes.insert(0, f"left out, with fewer than {options.batch // 2} spoofs: {', '.join(left)}")
    plots = [Plot("sharpness.png", "Sharpness and EER of every source, with 95 % intervals; large dots: many spoofs.")]
    return new_report("sharpness", f"Sharpness of {options.model.name}", machine, conditions, [whole, parts], notes, plots)


def row_of(
    table: "ScoreTable", chosen: "NDArray[np.bool_]", rises: list["Rise"], options: Options
) -> tuple[dict[str, Any], "NDArray[np.float64]"]:
    """One row of a table, and the resampled EERs behind its interval."""
    from benchmarks.report import Measured
    from train.bootstrap import interval_of, resampled_eers
    from train.metrics import eer, ranked

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


def mean_of(values: list[float], options: Options) -> "Measured":
    """Over batches, with its bootstrap interval where there are several."""
    import numpy as np

    from benchmarks.report import Measured
    from train.bootstrap import interval_of

    if len(values) == 1:
        return Measured(values[0], rounds=tuple(values))
    rng = np.random.default_rng(options.seed)
    means = rng.choice(values, (options.bootstrap, len(values))).mean(axis=1)
    return Measured(float(np.mean(values)), *interval_of(means), rounds=tuple(values))


def correlation(
    rows: list[dict[str, Any]], rises: list[list["Rise"]], eers: list["NDArray[np.float64]"], options: Options
) -> "Measured | None":
    """Of sharpness and EER over sources; None for fewer than FEWEST_SOURCES, or where one of the two is constant."""
    import numpy as np

    from benchmarks.landscape import bootstrap_spearman, spearman
    from benchmarks.report import Measured
    from train.bootstrap import interval_of

    value = spearman(*(np.array([row[name].value for row in rows]) for name in ("sharpness", "EER")))
    if len(rows) < FEWEST_SOURCES or not np.isfinite(value):
        return None
    by_batch = [np.array([rise.ascent for rise in found]) for found in rises]
    return Measured(value, *interval_of(bootstrap_spearman(by_batch, eers, options.bootstrap, options.seed)))


def draw(sources: "Table", overall: "Table", path: Path) -> None:
    """EER over sharpness, one dot a source."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from benchmarks.report import Measured
    from runtime.files import whole_file

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
    axes.grid(alpha=0.3)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    run(main)
