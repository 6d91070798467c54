"""The tables, conditions and plot of a latency report, after every entry of the lineup has its times."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cases import SUFFIX
from benchmarks.latency.lineup import PEER, Entry, Lineup, frontend_name, windows
from benchmarks.report import Cell, Measured, Plot, Table
from benchmarks.report.plots import draw_latencies
from benchmarks.stats import ROUNDS, WARM_UP, ratio
from runtime.audio.features import HOP, RATE
from runtime.audio.framer import STEP
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.latency.__main__ import Options

BUDGET = 1000 * STEP * HOP / RATE  # 97.5 ms between two scores of a windowed model
GPU_RUNS = 100  # of an engine, by the GPU's own clock
Rows = list[dict[str, Cell]]


def tables(lineup: Lineup) -> list[Table]:
    """Those that have rows."""
    found = [steps_table(lineup), calls_table(lineup), bare_table(lineup), gpu_table(lineup), times_table(lineup)]
    return [table.without_empty() for table in found if table.rows]


def steps_table(lineup: Lineup) -> Table:
    """A row for a model in one form with so many threads."""
    rows: Rows = []
    for entry in lineup.entries:
        if entry.part != "network" or entry.batch > 1:
            continue
        step = lineup.find("step", entry)
        features = lineup.features.get(frontend_name(entry.subject.frontend)) if entry.subject else None
        size = lineup.sizes[entry.model, entry.form]
        rows.append({
            "model": entry.model, "form": entry.form, "threads": entry.threads,
            "features": features.median if features else None,
            "network": entry.median, "step": step.median if step else None,
            "step p99": 1000 * step.times.percentile(99) if step else None,
            "of budget": 100 * step.median.value / (BUDGET * entry.frames / STEP) if step else None,
            "file": Measured(size, size, size), "memory": lineup.memory[entry.model, entry.form],
            "energy": 1000 * step.joules if step and step.joules is not None else None,
        })  # fmt: skip
    columns = (
        "model*; form*; threads*; features, ms .3; network, ms < .3; step, ms < .3; step p99, ms .3; "
        "of budget, % .1; file, MB < .2; memory, MB < .0; energy, mJ <"
    )
    about = (
        f"Medians of one step: {STEP} new frames, {BUDGET:.1f} ms of sound, for one score; 16 frames, 130 ms, of a "
        "streaming model. features: samples to window. network: the engine's call. step: both and what joins them. "
        "of budget: of the new sound's duration. memory: of a process that loaded and ran this model alone. energy: of "
        "a step, beyond the idle machine's."
    )
    return Table.of("steps", "A step", about, columns, rows)


def calls_table(lineup: Lineup) -> Table:
    """Batches, streaming and windowed models side by side; empty with one batch size and windowed models only."""
    calls = [entry for entry in lineup.entries if entry.part == "network"]
    rows: Rows = []
    for entry in calls if any(entry.streaming or entry.batch > 1 for entry in calls) else ():
        twin = _windowed_twin(entry, calls) if entry.streaming else None
        work, each = lineup.work.get((entry.model, entry.form)), 1000 * entry.times.median / entry.batch
        rows.append({
            "model": entry.model, "form": entry.form, "threads": entry.threads, "batch": entry.batch,
            "input": "its own" if entry.form == PEER else "new frames" if entry.streaming else "window",
            "new": entry.frames, "multiply-adds": None if work is None else work / 1e6, "each": each,
            "a second": each / (entry.frames * HOP / RATE),
            "CPU": 1000 * median(entry.times.cpu) / entry.batch if _on_cpu(entry) else None,
            "window / step": _ratio(_cost(entry), _cost(twin), entry.batch) if twin else None,
        })  # fmt: skip
    columns = (
        "model*; form*; threads*; batch*; input; new, frames; multiply-adds, M .1; each, ms < .4; a second, ms < .2; "
        "CPU, ms .4; window / step, times .1"
    )
    about = (
        f"The network's call for one stream. A windowed model computes 600 frames for every {STEP} new ones, a "
        "streaming model the new ones alone. a second: time per second of one stream's sound. CPU: processor time of a "
        "call, all threads. window / step: processor time of the windowed network's call over that of a step, in the "
        "same form; median over rounds with a 95 % bootstrap interval."
    )
    return Table.of("calls", "Calls of the network", about, columns, rows)


def _windowed_twin(step: Entry, calls: Sequence[Entry]) -> Entry | None:
    """The windowed network of the same name, or the only windowed one, in the same form."""
    there = [e for e in calls if (e.form, e.threads, e.batch, e.streaming) == (step.form, step.threads, 1, False)]
    named = [entry for entry in there if entry.model == step.model.removesuffix(SUFFIX)]
    return named[0] if named else there[0] if len(there) == 1 else None


def _on_cpu(entry: Entry) -> bool:
    return bool(entry.times.cpu) and min(entry.times.cpu) > 0 and not entry.form.startswith("TensorRT")


def _cost(entry: Entry) -> Sequence[float]:
    return entry.times.cpu if _on_cpu(entry) else entry.times.medians


def _ratio(a: Sequence[float], b: Sequence[float], factor: float = 1.0) -> Cell:
    low, middle, high = (factor * end for end in ratio(a, b, paired=True))
    return Measured(middle, low, high) if np.isfinite(high) else middle


def bare_table(lineup: Lineup) -> Table:
    rows: Rows = []
    for bare in (entry for entry in lineup.entries if entry.part == "bare"):
        ours = lineup.find("network", bare)
        assert ours is not None, "a bare loop has the engine's row beside it"
        rows.append({
            "model": bare.model, "form": bare.form, "threads": bare.threads, "engine": ours.median,
            "bare": bare.median, "engine / bare": _ratio(bare.times.medians, ours.times.medians),
        })  # fmt: skip
    about = (
        "The engine's call beside session.run of ONNX Runtime on the same file with the same threads; both take turns. "
        "The ratio is the median over rounds with a 95 % bootstrap interval."
    )
    columns = "model*; form*; threads*; engine, ms .3; bare, ms .3; engine / bare .3"
    return Table.of("bare", "Against a bare loop", about, columns, rows)


def gpu_table(lineup: Lineup) -> Table:
    """Times by the GPU's own events, of TensorRT engines."""
    rows: Rows = []
    for subject, engine in lineup.engines:
        if hasattr(engine, "device_times"):
            features = np.ascontiguousarray(windows(subject.frontend, 1)[..., : subject.frames])
            times = engine.device_times(features, GPU_RUNS)
            rows.append({
                "model": subject.model, "form": subject.form, "CUDA graph": times.graph, "waiting": times.waiting,
                **{name: median(values) for name, values in times.milliseconds.items()},
            })  # fmt: skip
    about = (
        "By the GPU's events. launch: copies and kernels in one go, as a stream does. The others: the same, queued one "
        "by one. waiting: how the driver lets a thread wait."
    )
    columns = "model*; form*; launch, ms .3; to device, ms .3; compute, ms .3; to host, ms .3; CUDA graph; waiting"
    return Table.of("gpu", "On the GPU", about, columns, rows)


def times_table(lineup: Lineup) -> Table:
    rows: Rows = []
    for e in lineup.entries:
        seconds = {"min": e.times.sorted[0], "mean": e.times.mean, "median": e.times.median}
        seconds |= {f"p{percent}": e.times.percentile(percent) for percent in (90, 95, 99)}
        seconds["max"] = e.times.sorted[-1]
        rows.append({
            "model": e.model, "form": e.form, "part": e.part, "threads": e.threads, "batch": e.batch,
            "runs": len(e.times.sorted), **{name: 1000 * value for name, value in seconds.items()},
            "CV": 100 * e.times.variation,
        })  # fmt: skip
    columns = (
        "model*; form*; part*; threads*; batch*; runs; min, ms .3; mean, ms .3; median, ms .3; p90, ms .3; p95, ms .3; "
        "p99, ms .3; max, ms .3; CV, % .1"
    )
    about = (
        "Every counted run. Percentiles by trtexec's rule: of n sorted runs the one at n - 1 - int((1 - N / 100) n). "
        "CV: standard deviation over mean."
    )
    return Table.of("times", "Every part", about, columns, rows)


def conditions(options: "Options", lineup: Lineup) -> dict[str, Any]:
    return {
        "batch": sorted({1, *options.batch}), "threads": sorted(set(options.threads)), "forms": list(options.forms),
        "seconds of each case, at least": options.seconds, "runs of each case, at least": options.runs,
        "rounds": ROUNDS, "warm-up, ms": 1000 * WARM_UP, "inputs of peers": lineup.inputs,
        "order": "in turns, in another order each round; the first run of a turn is not counted",
        "clock": "time.perf_counter around each run; no garbage collection meanwhile",
        "ONNX Runtime": "CPUExecutionProvider, intra-op threads as named, 1 inter-op thread, else its defaults",
    }  # fmt: skip


def draw(lineup: Lineup, folder: Path) -> list[Plot]:
    """The distribution of steps; nothing without matplotlib, as on a device."""
    curves = {
        f"{e.model} {e.form}, {e.threads} thread(s)": [1000 * seconds for seconds in e.times.sorted]
        for e in lineup.entries
        if e.part == "step" or (e.form == PEER and e.batch == 1)
    }
    try:
        draw_latencies(curves, folder / "distribution.png", "ms of a step (of a peer: its network)", "share of runs")
    except ShrikeError:
        return []
    return [Plot("distribution.png", "Share of runs that took at most so long.")]
