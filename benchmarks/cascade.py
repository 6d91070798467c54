"""A cascade against its whole network on the same trials: accuracy, multiply-adds, and time for a score, in turns.

    python -m benchmarks.cascade deploy/model.onnx --corpus ../shared/corpus --partition eval

The network's file and its segments are those that python -m export.cascade wrote; thresholds are the card's, nothing is
chosen here. How much is saved hangs on what is heard, so time is taken over the very windows that are scored: each call
takes the next one, and the mean over calls is what a score costs.
"""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.command import parse, run
from runtime.errors import ShrikeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.report import Report, Table
    from benchmarks.timing import Times
    from runtime.card import ModelCard
    from runtime.engines import Engine
    from train.corpus import Partition

OUT = "runs/reports/cascade-%Y%m%d-%H%M%S"
TIMED = 400  # windows that are timed, from all over the list: 18 MB (f0)


@dataclass(frozen=True)
class Options:
    """Measure cascades against their whole networks."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """Each a model.onnx whose card names segments (python -m export.cascade)."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Which of its protocols; thresholds were chosen on dev, eval is for once."""
    seconds: float = 5.0
    """Seconds that are counted for every model, whole and as a cascade; 0 leaves times out."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ShrikeError("nothing to measure: name a model.onnx that python -m export.cascade wrote")
        if self.seconds < 0 or self.bootstrap < 1:
            raise ShrikeError("--seconds: 0 or more was expected; --bootstrap: 1 or more")


@dataclass(frozen=True, eq=False)
class Found:
    """Of one model."""

    name: str
    card: "ModelCard"
    labels: "NDArray[np.int64]"  # (n,)
    whole: "NDArray[np.float64]"  # (n,) LLRs of the whole network
    stopped: "NDArray[np.float64]"  # (n,) of the cascade
    exits: "NDArray[np.int64]"  # (n,) which exit decided
    times: "tuple[Times, Times] | None"


def main() -> None:
    options = parse(Options, "benchmarks.cascade", __doc__)
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, report_folder, write_report
    from benchmarks.scoring import labels
    from train.corpus import open_corpus
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    load = os.getloadavg()[0]
    partition = open_corpus(options.corpus, options.partition)
    say(partition.describe())
    if partition.unlabelled or not partition.bonafide or not partition.spoof:
        raise ShrikeError("bona fide and spoofed trials were expected, all with labels")
    names = labels([str(path) for path in options.models])
    found = [score(options, path, name, partition) for path, name in zip(options.models, names, strict=True)]
    report = make_report(options, found, partition, load)
    with report_folder(out, options.overwrite) as folder:
        write_report(folder, report)
    print("\n\n".join(table_text(table) for table in report.tables))
    for note in report.notes:
        say(f"mind: {note}")
    say(f"the whole report: {out / 'report.md'}")


def score(options: Options, path: Path, name: str, partition: "Partition") -> Found:
    """Every trial's first window through both, then both against the clock."""
    import numpy as np

    from benchmarks.timing import Case, measure
    from export.calibration import as_input
    from export.graph import score as raw
    from runtime.engines.cascade import open_cascade
    from runtime.engines.onnx import open_onnx
    from train.cache import build_cache
    from train.progress import Progress, say

    cascade, engine = open_cascade(path), open_onnx(path)
    card = cascade.card
    cache = build_cache(card.frontend, partition.trials, options.cache)
    scores, exits = np.empty((len(cache), 2)), np.empty(len(cache), np.int64)
    with Progress(name, len(cache), "trials") as bar:
        for clip in range(len(cache)):
            window = as_input(cache.window(clip))
            cascade.decided.clear()
            scores[clip] = raw(engine(window))[0], raw(cascade(window))[0]
            (exits[clip],) = cascade.decided
            bar.advance()
    times = None
    if options.seconds:
        say(f"{name}: {options.seconds:g} s each against the clock")
        clips = np.linspace(0, len(cache) - 1, min(TIMED, len(cache))).astype(int)
        windows = [as_input(cache.window(int(clip))) for clip in clips]
        cases = [Case("whole", calls(engine, windows)), Case("cascade", calls(cascade, windows))]
        whole, stopped = measure(cases, options.seconds, runs=len(windows), say=say)
        times = whole, stopped
    llrs = card.score.llr(scores)
    return Found(name, card, cache.labels, llrs[:, 0], llrs[:, 1], exits, times)


def calls(engine: "Engine", windows: "Sequence[NDArray[np.float32]]") -> "Callable[[], object]":
    """A call that scores the next window, round and round."""
    source = itertools.cycle(windows)
    return lambda: engine(next(source))


def make_report(options: Options, found: Sequence[Found], partition: "Partition", load: float) -> "Report":
    from benchmarks.host import describe
    from benchmarks.latency import BUSY
    from benchmarks.report import new_report

    conditions = {
        "corpus": partition.root.name,
        "trials": partition.describe(),
        "trials sha256": partition.identity(),
        "windows": "first",
        "threads": 1,
        "models": {one.name: {"sha256": one.card.files, "name": one.card.name} for one in found},
    }
    notes = []
    if load > BUSY:
        notes.append(f"load average was {load:.1f} when it began: other work ran, compare times by their ratio alone")
    tables = [cascade_table(found, options.bootstrap), exits_table(found)]
    title = f"Cascades on {partition.name} of {partition.root.name}"
    return new_report("cascade", title, describe(), conditions, tables, notes)


def cascade_table(found: Sequence[Found], resamples: int) -> "Table":
    from benchmarks.noise import paired_ratio
    from benchmarks.report import Cell, Column, Measured, Table
    from train.bootstrap import paired_bootstrap_eer_difference
    from train.metrics import cllr, eer

    rows: list[dict[str, Cell]] = []
    for one in found:
        true = one.labels == 1
        change, low, high = paired_bootstrap_eer_difference(one.stopped, one.whole, true, resamples)
        row: dict[str, Cell] = {
            "model": one.name,
            "allowed": one.card.cascade.dev.max_loss if one.card.cascade else None,
            "EER whole": 100 * eer(one.whole[true], one.whole[~true]),
            "EER": 100 * eer(one.stopped[true], one.stopped[~true]),
            "change": Measured(100 * change, 100 * low, 100 * high),
            "Cllr whole": cllr(one.whole[true], one.whole[~true]),
            "Cllr": cllr(one.stopped[true], one.stopped[~true]),
            "multiply-adds": 100 * mean_cost(one),
        }
        if one.times is not None:
            whole, stopped = ([1000 * fmean(turn) for turn in times.rounds] for times in one.times)
            rounds = min(len(whole), len(stopped))  # that both took part in
            least, middle, most = paired_ratio(whole[:rounds], stopped[:rounds])
            row |= {
                "whole": Measured(1000 * one.times[0].mean, rounds=tuple(whole)),
                "cascade": Measured(1000 * one.times[1].mean, rounds=tuple(stopped)),
                "cascade / whole": Measured(middle, least, most),
            }
        rows.append(row)
    columns = (
        Column("model", key=True),
        Column("allowed", "bit", digits=3),
        Column("EER whole", "%", digits=2),
        Column("EER", "%", "lower", digits=2),
        Column("change", "%", "lower", digits=2),
        Column("Cllr whole", "bit", digits=4),
        Column("Cllr", "bit", "lower", digits=4),
        Column("multiply-adds", "% of the whole", "lower", digits=1),
        Column("whole", "ms", digits=3),
        Column("cascade", "ms", "lower", digits=3),
        Column("cascade / whole", digits=3),
    )
    about = (
        "Both on the same windows, the first of every trial. allowed: the loss for which thresholds were chosen on "
        "development trials. change: of the EER, with its 95 % interval. Cllr of the LLRs as the card maps them. "
        "multiply-adds: mean, both classes weighed alike. whole, cascade: mean ms for a score, the engine's call alone."
    )
    return Table.of("cascade", "The cascade and the whole network", about, columns, rows).without_empty()


def mean_cost(one: Found) -> float:
    """Mean multiply-adds of a window as a part of the whole network's, both classes weighed alike."""
    assert one.card.cascade is not None
    parts = one.card.cascade.segments
    share = {part.exit: part.multiply_adds / parts[-1].multiply_adds for part in parts}
    return fmean(fmean(share[int(exit)] for exit in one.exits[one.labels == key]) for key in (0, 1))


def exits_table(found: Sequence[Found]) -> "Table":
    from benchmarks.report import Cell, Column, Table

    rows: list[dict[str, Cell]] = []
    for one in found:
        assert one.card.cascade is not None
        parts = one.card.cascade.segments
        for part in parts:
            row: dict[str, Cell] = {"model": one.name, "exit": part.exit, "low": part.low, "high": part.high}
            row["cost"] = 100 * part.multiply_adds / parts[-1].multiply_adds
            for key, name in ((1, "bona fide"), (0, "spoof")):
                row[name] = 100 * float((one.exits[one.labels == key] == part.exit).mean())
            rows.append(row)
    columns = (
        Column("model", key=True),
        Column("exit", key=True),
        Column("low", "LLR", digits=2),
        Column("high", "LLR", digits=2),
        Column("cost", "% of the whole", digits=1),
        Column("bona fide", "% decided", digits=1),
        Column("spoof", "% decided", digits=1),
    )
    about = (
        "Where windows stopped: at an LLR at or below low, or at or above high; and what a window costs up to there."
    )
    return Table.of("exits", "Exits", about, columns, rows)


if __name__ == "__main__":
    run(main)
