"""The tables, conditions and notes of a latency report, from what was measured.

report = compose(options, lineup, times, energy, gpu, machine, notes, folder)     # its plots are drawn into the folder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.forms import STEPPING
from benchmarks.lineup import PEER, Entry, Lineup, frontend_name
from benchmarks.markdown import table_text
from benchmarks.noise import paired_ratio
from benchmarks.report import Cell, Column, Measured, Plot, Report, Table, new_report
from benchmarks.timing import ROUNDS, WARM_UP, Times
from runtime.audio.features import HOP, RATE
from runtime.audio.framer import STEP

if TYPE_CHECKING:
    from benchmarks.forms import Subject
    from benchmarks.latency import Options
    from runtime.engines.tensorrt import DeviceTimes

BUDGET = 1000 * STEP * HOP / RATE  # ms between two scores of windows: what a step may take
UNSTEADY = 0.10  # spread of rounds from which a note speaks of it
MODEL = (Column("model", key=True), Column("form", key=True))
THREADS, BATCH = Column("threads", key=True), Column("batch", key=True)


@dataclass(frozen=True)
class Result:
    """A case and its times."""

    entry: Entry
    times: Times

    @property
    def median(self) -> Measured:
        """ms, with the rounds' own medians."""
        return Measured(_ms(self.times.median), rounds=tuple(round(_ms(value), 6) for value in self.times.medians))


def compose(
    options: "Options",
    lineup: Lineup,
    times: Sequence[Times],
    energy: dict[tuple[str, str, int], float],
    gpu: Sequence[tuple["Subject", "DeviceTimes"]],
    machine: dict[str, Any],
    notes: Sequence[str],
    folder: Path,
) -> Report:
    """Everything that this run found; plots go into `folder`."""
    results = [Result(entry, found) for entry, found in zip(lineup.entries, times, strict=True)]
    tables = [steps_table(lineup, results, energy)]
    if any(subject.frames for subject in lineup.subjects):
        tables.append(sound_table(lineup, results))
    tables += [table for table in (batches_table(results), bare_table(results), gpu_table(gpu)) if table.rows]
    tables.append(times_table(results))
    plots, drawn = draw(tables[0], results, folder)
    names = ", ".join(
        dict.fromkeys([subject.model for subject in lineup.subjects] + [name for name, _ in lineup.peers])
    )
    found = [*notes, *unsteady(results), *drawn]
    return new_report("latency", f"Latency of {names}", machine, conditions(options, lineup), tables, found, plots)


def printed(report: Report) -> list[str]:
    """What goes to stdout: all tables but the longest."""
    return [table_text(table) for table in report.tables if table.name != "times"]


# ---- tables ----------------------------------------------------------------------------------------------------------


def steps_table(lineup: Lineup, results: Sequence[Result], energy: dict[tuple[str, str, int], float]) -> Table:
    """One row for a model in one form with so many threads."""
    found = {(r.entry.model, r.entry.form, r.entry.part, r.entry.threads, r.entry.batch): r for r in results}
    frontends = {(subject.model, subject.form): frontend_name(subject.frontend) for subject in lineup.subjects}
    new = {(subject.model, subject.form): subject.frames or STEP for subject in lineup.subjects}
    rows: list[dict[str, Cell]] = []
    for model, form, threads in dict.fromkeys((r.entry.model, r.entry.form, r.entry.threads) for r in results):
        network, step = (found.get((model, form, part, threads, 1)) for part in ("network", "step"))
        if network is None:
            continue
        features = found.get((frontends.get((model, form), ""), "front-end", "features", 1, 1))
        spent = energy.get((model, form, threads))
        size = lineup.sizes[model, form]
        rows.append({
            "model": model,
            "form": form,
            "threads": threads,
            "features": features.median if features else None,
            "network": network.median,
            "step": step.median if step else None,
            "step p99": _ms(step.times.percentile(99)) if step else None,
            "of budget": 100 * step.median.value / (BUDGET * new[model, form] / STEP) if step else None,
            "file": Measured(size, size, size),  # known exactly
            "memory": lineup.memory[model, form],
            "energy": None if spent is None else 1000 * spent,
        })  # fmt: skip
    columns = (
        *MODEL,
        THREADS,
        Column("features", "ms", digits=3),
        Column("network", "ms", "lower", digits=3),
        Column("step", "ms", "lower", digits=3),
        Column("step p99", "ms", digits=3),
        Column("of budget", "%", digits=1),
        Column("file", "MB", "lower", digits=2),
        Column("memory", "MB", "lower", digits=0),
        Column("energy", "mJ", "lower"),
    )
    about = (
        f"Medians of one step: {STEP} frames of sound in, one score out, {BUDGET:.1f} ms of sound; a network that "
        "remembers takes 16, 130 ms. features: samples to window, once for each front-end. network: the engine's call. "
        "step: StreamScorer, both and what joins them. of budget: of the sound that is new in it. "
        "memory: what a process with nothing else holds after its first score. energy: of a step, beyond an idle "
        "machine's."
    )
    return Table.of("steps", "A step", about, columns, rows).without_empty()


def sound_table(lineup: Lineup, results: Sequence[Result]) -> Table:
    """Windows and steps side by side: what they cost for the sound that is new in each call."""
    frames = {(subject.model, subject.form): subject.frames for subject in lineup.subjects}
    calls = [result for result in results if result.entry.part == "network"]
    windows = [one for one in calls if frames.get((one.entry.model, one.entry.form)) is None and one.entry.batch == 1]
    rows: list[dict[str, Cell]] = []
    for result in calls:
        entry = result.entry
        remembers = frames.get((entry.model, entry.form))
        whole = _of_windows(result, windows) if remembers else None
        new, work = remembers or STEP, lineup.work.get((entry.model, entry.form))
        rows.append({
            "model": entry.model, "form": entry.form, "threads": entry.threads, "batch": entry.batch,
            "sees": "its own input" if entry.form == PEER else "new frames" if remembers else "the window",
            "new": new, "multiply-adds": None if work is None else work / 1e6,
            "each": _ms(result.times.median) / entry.batch,
            "a second": _ms(result.times.median) / entry.batch / (new * HOP / RATE),
            "CPU": _ms(median_of(result.times.cpu)) / entry.batch if _on_cpu(result) else None,
            "a window costs": None if whole is None else _times_less(result, whole),
        })  # fmt: skip
    columns = (
        *MODEL, THREADS, BATCH, Column("sees"), Column("new", "frames"), Column("multiply-adds", "M", digits=1),
        Column("each", "ms", "lower", digits=4), Column("a second", "ms", "lower", digits=2),
        Column("CPU", "ms", digits=4), Column("a window costs", "times", digits=1),
    )  # fmt: skip
    about = (
        "The network's call for one stream: a network that is given windows sees 600 frames for every "
        f"{STEP} new ones, as a peer its whole input, one that remembers the new ones alone. a second: of the stream's "
        "sound, per stream. CPU: the processor's time of a call, all threads, which other work here disturbs least. "
        "a window costs: how many times a step's the call of the same network (or of the only one) takes that is "
        "given windows, in the same form; the median over rounds with its 95 % interval."
    )
    return Table.of("sound", "For a second of sound", about, columns, rows).without_empty()


def _of_windows(step: Result, windows: Sequence[Result]) -> Result | None:
    """The network of whole windows that a step is compared with: by its name, or because there is one alone."""
    mine = step.entry
    there = [one for one in windows if (one.entry.form, one.entry.threads) == (mine.form, mine.threads)]
    named = [one for one in there if one.entry.model == mine.model.removesuffix(STEPPING)]
    return (named or there)[0] if named or len(there) == 1 else None


def _on_cpu(result: Result) -> bool:
    return bool(result.times.cpu) and not result.entry.form.startswith("TensorRT")


def _times_less(step: Result, window: Result) -> Cell:
    ours, theirs = (one.times.cpu if _on_cpu(one) else one.times.medians for one in (step, window))
    rounds = min(len(ours), len(theirs))  # that both took part in
    low, middle, high = paired_ratio(ours[:rounds], theirs[:rounds])
    batch = step.entry.batch
    return Measured(middle * batch, low * batch, high * batch) if high < float("inf") else middle * batch


def batches_table(results: Sequence[Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for result in results:
        entry = result.entry
        if entry.part == "network" and entry.batch > 1:
            seconds = result.times.median
            rows.append({
                "model": entry.model, "form": entry.form, "threads": entry.threads, "batch": entry.batch,
                "median": result.median, "per window": _ms(seconds) / entry.batch, "speed": entry.batch / seconds,
            })  # fmt: skip
    columns = (
        *MODEL, THREADS, BATCH, Column("median", "ms", "lower", digits=3), Column("per window", "ms", digits=3),
        Column("speed", "windows/s"),
    )  # fmt: skip
    return Table.of("batches", "Several windows at once", "The network's call alone.", columns, rows)


def bare_table(results: Sequence[Result]) -> Table:
    found = {(r.entry.model, r.entry.form, r.entry.threads): r for r in results if _is(r, "network")}
    rows: list[dict[str, Cell]] = []
    for bare in (result for result in results if result.entry.part == "bare"):
        ours = found[bare.entry.model, bare.entry.form, bare.entry.threads]
        rounds = min(len(bare.times.medians), len(ours.times.medians))  # that both took part in
        low, middle, high = paired_ratio(bare.times.medians[:rounds], ours.times.medians[:rounds])
        rows.append({
            "model": bare.entry.model, "form": bare.entry.form, "threads": bare.entry.threads,
            "engine": ours.median, "bare": bare.median,
            "engine / bare": Measured(middle, low, high) if high < float("inf") else middle,
        })  # fmt: skip
    columns = (
        *MODEL, THREADS, Column("engine", "ms", digits=3), Column("bare", "ms", digits=3),
        Column("engine / bare", digits=3),
    )  # fmt: skip
    about = (
        "What is measured above, against session.run of ONNX Runtime on the same file with the same threads and "
        "nothing of ours around it; both took turns. The ratio is the median over rounds, with its 95 % interval."
    )
    return Table.of("bare", "Against a bare loop", about, columns, rows)


def gpu_table(gpu: Sequence[tuple["Subject", "DeviceTimes"]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for subject, times in gpu:
        row: dict[str, Cell] = {
            "model": subject.model, "form": subject.form, "CUDA graph": times.graph, "waiting": times.waiting
        }  # fmt: skip
        rows.append(row | {name: median_of(values) for name, values in times.milliseconds.items()})
    columns = (
        *MODEL, Column("launch", "ms", digits=3), Column("to device", "ms", digits=3),
        Column("compute", "ms", digits=3), Column("to host", "ms", digits=3), Column("CUDA graph"), Column("waiting"),
    )  # fmt: skip
    about = (
        "By the GPU's own events. launch: what a stream does, copies and kernels in one go. The other three: the same "
        "queued one by one. waiting: how the driver lets a thread wait for the GPU."
    )
    return Table.of("gpu", "On the GPU", about, columns, rows)


def times_table(results: Sequence[Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for result in results:
        entry, times = result.entry, result.times
        row: dict[str, Cell] = {
            "model": entry.model, "form": entry.form, "part": entry.part, "threads": entry.threads,
            "batch": entry.batch, "runs": times.count, "min": _ms(times.sorted[0]), "mean": _ms(times.mean),
            "median": _ms(times.median),
        }  # fmt: skip
        row |= {f"p{percent}": _ms(times.percentile(percent)) for percent in (90, 95, 99)}
        rows.append(row | {"max": _ms(times.sorted[-1]), "CV": 100 * times.variation})
    names = ("min", "mean", "median", "p90", "p95", "p99", "max")
    columns = (
        *MODEL, Column("part", key=True), THREADS, BATCH, Column("runs"),
        *(Column(name, "ms", digits=3) for name in names), Column("CV", "%", digits=1),
    )  # fmt: skip
    about = (
        "Every counted run. Percentiles by trtexec's rule: of n sorted runs the one at n - 1 - int((1 - N / 100) n), "
        "so p99 of fewer than 100 runs is the maximum. CV: standard deviation over mean."
    )
    return Table.of("times", "Every part", about, columns, rows)


# ---- around them -----------------------------------------------------------------------------------------------------


def conditions(options: "Options", lineup: Lineup) -> dict[str, Any]:
    found: dict[str, Any] = {
        "batch": sorted({1, *options.batch}),
        "threads": sorted(set(options.threads)),
        "seconds of each case, at least": options.seconds,
        "runs of each case, at least": options.runs,
        "rounds": ROUNDS,
        "warm-up, ms": 1000 * WARM_UP,
        "order": "in turns: every other round backwards, rotated by one every two; a turn's first run is not counted",
        "clock": "time.perf_counter around each run; no garbage collection meanwhile",
        "ONNX Runtime": "CPUExecutionProvider, intra-op threads as named, 1 inter-op thread, else its defaults",
        "forms": list(options.forms),
    }
    if any(subject.form == "torch" for subject in lineup.subjects):
        found["torch"] = "inference_mode, batch norms folded as for export, intra-op threads as named"
    for label, shapes in lineup.fed.items():
        found[f"inputs of {label}"] = shapes
    return found


def unsteady(results: Sequence[Result]) -> list[str]:
    """A note where rounds of one case differ so much that something else must have run."""
    spreads = {}
    for result in results:
        medians = sorted(result.times.medians)
        tenth = len(medians) // 10
        low, high = medians[tenth], medians[-1 - tenth]
        spreads[result.entry.case.name] = high / low - 1
    worst = max(spreads, key=lambda name: spreads[name])
    count = sum(spread > UNSTEADY for spread in spreads.values())
    if not count:
        return []
    return [
        f"the rounds of {count} of {len(spreads)} cases differ by more than {UNSTEADY:.0%}, most those of {worst} "
        f"({spreads[worst]:.0%}): something disturbed this run; compare ratios within it, not numbers with another's"
    ]


def draw(steps: Table, results: Sequence[Result], folder: Path) -> tuple[list[Plot], list[str]]:
    """Both plots; or, on a device without matplotlib, a note."""
    from benchmarks.latency_plots import draw_budget, draw_distributions

    whole = [result for result in results if result.entry.part == "step" or _is(result, "network", PEER)]
    try:
        draw_budget(steps, BUDGET, folder / "budget.png")
        draw_distributions([(_label(r), r.entry.form, r.times) for r in whole], BUDGET, folder / "distribution.png")
    except ImportError:
        return [], ["no plots: matplotlib is not installed here"]
    said = "A step's median, by its parts, and the time between two scores."
    spread = "All runs of a step (of a peer: of its network): boxes from p25 to p75, whiskers to p1 and p99, dots: max."
    return [Plot("budget.png", said), Plot("distribution.png", spread)], []


def median_of(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _label(result: Result) -> str:
    entry = result.entry
    return f"{entry.model} {entry.form}" + (f", {entry.threads} threads" if entry.threads > 1 else "")


def _is(result: Result, part: str, form: str = "") -> bool:
    return result.entry.part == part and result.entry.batch == 1 and form in ("", result.entry.form)


def _ms(seconds: float) -> float:
    return 1000 * seconds
