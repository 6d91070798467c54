"""A latency run: its lineup is measured in turns, and the tables follow from the times of every entry."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cases import SUFFIX
from benchmarks.latency.lineup import PEER, Entry, Lineup, frontend_name, line_up, measure_energy
from benchmarks.report import Cell, Measured, Plot, Report, Table, new_report
from benchmarks.report.plots import draw_latencies
from benchmarks.stats import ROUNDS, WARM_UP, measure, ratio
from runtime.audio.features import HOP, RATE
from runtime.audio.framer import STEP
from runtime.support.errors import ShrikeError
from train.progress import say

if TYPE_CHECKING:
    from benchmarks.latency.__main__ import Options

Rows = list[dict[str, Cell]]


def measure_all(options: "Options", folder: Path) -> Report:
    """Measure all cases in turns, then the energy of each step."""
    with TemporaryDirectory() as exported:
        lineup, plots = line_up(options, Path(exported)), list[Plot]()
        say(f"measuring {len(lineup.entries)} cases, at least {len(lineup.entries) * options.seconds:.0f} s")
        times = measure([entry.case for entry in lineup.entries], options.seconds, options.runs)
        for entry, found in zip(lineup.entries, times, strict=True):
            entry.times = found
        measure_energy(lineup, options.seconds)
        for engine in lineup.engines:
            engine.close()
    shown = [entry for entry in lineup.entries if entry.part == "step" or (entry.form, entry.batch) == (PEER, 1)]
    curves = {f"{e.model} {e.form}, {e.threads} thread(s)": [1000 * s for s in e.times.sorted] for e in shown}
    with suppress(ShrikeError):  # without matplotlib, as on a device
        draw_latencies(curves, folder / "distribution.png", "ms of a step (of a peer: network)", "runs")
        plots.append(Plot("distribution.png", "Share of runs that took at most so long."))
    conditions = {
        "batch": list(options.batch), "threads": list(options.threads), "forms": list(options.forms),
        "seconds of each case, at least": options.seconds, "runs of each case, at least": options.runs,
        "rounds": ROUNDS, "warm-up, ms": 1000 * WARM_UP, "inputs of peers": lineup.inputs,
        "ONNX Runtime": "CPUExecutionProvider, intra-op threads as named, 1 inter-op thread, else its defaults",
    }  # fmt: skip
    title = f"Latency of {', '.join(dict.fromkeys(e.model for e in lineup.entries if e.part == 'network'))}"
    return new_report("latency", title, conditions, tables(lineup), lineup.notes, plots)


def tables(lineup: Lineup) -> list[Table]:
    """Those that have rows."""
    found = [steps_table(lineup), calls_table(lineup), bare_table(lineup), times_table(lineup)]
    return [table.without_empty() for table in found if table.rows]


def steps_table(lineup: Lineup) -> Table:
    """A row for a model in one form with so many threads."""
    rows: Rows = []
    for entry in (found for found in lineup.entries if found.part == "network" and found.batch == 1):
        size, memory = lineup.sizes[entry.model, entry.form], lineup.memory[entry.model, entry.form]
        row = entry.row | {"network": entry.median, "file": Measured(size, size, size), "memory": memory}
        if entry.subject and (features := lineup.find("features", model=frontend_name(entry.subject.frontend))):
            row["features"] = features.median
        if step := lineup.find("step", **entry.row):
            row |= {
                "step": step.median, "step p99": 1000 * step.times.percentile(99),
                "of budget": 100 * step.median.value / (1000 * seconds(entry)),
                "energy": None if step.joules is None else 1000 * step.joules,
            }  # fmt: skip
        rows.append(row)
    columns = (
        "model*; form*; threads*; features, ms .3; network, ms < .3; step, ms < .3; step p99, ms .3; "
        "of budget, % .1; file, MB < .2; memory, MB < .0; energy, mJ <"
    )
    about = (
        f"Medians of one step: {STEP} new frames for one score, 97.5 ms of sound, or 120 ms with a log-mel front-end; "
        "16 frames, 130 ms, of a streaming model. of budget: of that time. memory: of a process that loaded and ran "
        "this model alone. energy: beyond the idle machine's."
    )
    return Table.of("steps", "A step", about, columns, rows)


def seconds(entry: Entry) -> float:
    """New sound for one score; of a peer without a front-end, as of `f0`."""
    hop = entry.subject.frontend.hop if entry.subject else HOP
    return entry.frames * hop / RATE


def calls_table(lineup: Lineup) -> Table:
    """Batches, streaming and windowed models side by side; empty with one batch size and windowed models only."""
    calls, rows = [entry for entry in lineup.entries if entry.part == "network"], Rows()
    for entry in calls if any(entry.streaming or entry.batch > 1 for entry in calls) else ():
        twin = _windowed_twin(entry, calls) if entry.streaming else None
        work, each = lineup.work.get((entry.model, entry.form)), 1000 * entry.times.median / entry.batch
        rows.append(entry.row | {
            "batch": entry.batch, "new": entry.frames, "multiply-adds": None if work is None else work / 1e6,
            "input": "its own" if entry.form == PEER else "new frames" if entry.streaming else "window",
            "each": each, "a second": each / seconds(entry),
            "CPU": 1000 * median(entry.times.cpu) / entry.batch if entry.on_cpu else None,
            "window / step": _ratio(entry.cost, twin.cost, entry.batch) if twin else None,
        })  # fmt: skip
    columns = (
        "model*; form*; threads*; batch*; input; new, frames; multiply-adds, M .1; each, ms < .4; a second, ms < .2; "
        "CPU, ms .4; window / step, times .1"
    )
    about = (
        "The network's call, per stream. a second: for a second of one stream's sound. window / step: processor time "
        "of the windowed network's call over that of a step; median over rounds with a 95 % bootstrap interval."
    )
    return Table.of("calls", "Calls of the network", about, columns, rows)


def _windowed_twin(step: Entry, calls: Sequence[Entry]) -> Entry | None:
    """The windowed network of the same name, or the only windowed one, in the same form."""
    there = [e for e in calls if (e.form, e.threads, e.batch, e.streaming) == (step.form, step.threads, 1, False)]
    named = [entry for entry in there if entry.model == step.model.removesuffix(SUFFIX)]
    return named[0] if named else there[0] if len(there) == 1 else None


def _ratio(a: Sequence[float], b: Sequence[float], factor: float = 1.0) -> Cell:
    low, middle, high = (factor * end for end in ratio(a, b, paired=True))
    return Measured(middle, low, high) if np.isfinite(high) else middle


def bare_table(lineup: Lineup) -> Table:
    rows: Rows = []
    for bare in (entry for entry in lineup.entries if entry.part == "bare"):
        ours = lineup.find("network", **bare.row)
        assert ours is not None, "a bare loop has the engine's row beside it"
        both = _ratio(bare.times.medians, ours.times.medians)
        rows.append(bare.row | {"engine": ours.median, "bare": bare.median, "engine / bare": both})
    about = (
        "session.run of ONNX Runtime on the same file, in turns. The ratio is a median with a 95 % bootstrap interval."
    )
    columns = "model*; form*; threads*; engine, ms .3; bare, ms .3; engine / bare .3"
    return Table.of("bare", "Against a bare loop", about, columns, rows)


def times_table(lineup: Lineup) -> Table:
    rows: Rows = []
    for e in lineup.entries:
        seconds = {"min": e.times.sorted[0], "mean": e.times.mean, "median": e.times.median, "max": e.times.sorted[-1]}
        seconds |= {f"p{percent}": e.times.percentile(percent) for percent in (90, 95, 99)}
        row = {"part": e.part, "batch": e.batch, "runs": len(e.times.sorted), "CV": 100 * e.times.variation}
        rows.append(e.row | row | {name: 1000 * value for name, value in seconds.items()})
    columns = (
        "model*; form*; part*; threads*; batch*; runs; min, ms .3; mean, ms .3; median, ms .3; p90, ms .3; p95, ms .3; "
        "p99, ms .3; max, ms .3; CV, % .1"
    )
    about = "Every counted run. Percentiles by trtexec's rule. CV: standard deviation over mean."
    return Table.of("times", "Every part", about, columns, rows)
