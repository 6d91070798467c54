"""How many streams a core bears at the pace of speech: one pool, lateness of every score, CPU and memory of a stream.

    python -m benchmarks.streams deploy/model.onnx --streams 100 200
    python -m benchmarks.streams deploy/streaming.onnx deploy/window.onnx --corpus ../shared/corpus --largest
    python -m benchmarks.streams senet9-streaming senet9 --streams 200          # weights by chance: times, no scores
    python -m benchmarks.streams f0 wide --largest --out runs/reports/streams

Models that remember and those that are given whole windows are loaded alike. A number of streams holds where 99 of 100
scores come less than one step late. The streams are those of runtime.multi_stream: front-end and network, without verdicts and
output. docs/stream.md says how the product runs several sources at once.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Optional

import tyro

from runtime.engines.model_loader import DEFAULT
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.forms import Subject
    from benchmarks.load import Load
    from benchmarks.report import Report, Table
    from runtime.audio.features import Samples
    from runtime.engines.model_loader import LoadedModel

OUT = "runs/reports/streams-%Y%m%d-%H%M%S"
SOUNDS = 8  # different ones, which streams share
LENGTH = 30.0  # s of each
CLOSE = 0.05  # the largest number of streams is looked for until it is known to 5 %
SHARES = (50, 95, 99)  # percentiles of lateness
LEAST = 1e-3  # ms: what nothing is drawn as on a logarithmic axis


@dataclass(frozen=True)
class Options:
    """Load one core with streams in real time."""

    models: tyro.conf.Positional[tuple[str, ...]] = (DEFAULT,)
    """f0, wide, paths to model.pt, model.onnx or model.engine, or networks by name (ecanet9, ecanet9-streaming)."""
    streams: tuple[int, ...] = ()
    """Streams at once, numbers to try; none: the largest that holds is looked for."""
    largest: bool = False
    """Look for the largest number that holds, besides those of --streams."""
    seconds: float = 10.0
    """Seconds of sound that are counted, in each try."""
    corpus: Optional[Path] = None  # noqa: UP045 - runtime.support.command says why
    """Folder of the corpus whose development clips are streamed; without it voices that code makes."""
    step: Optional[int] = None  # noqa: UP045
    """Frames of 8.125 ms between two verdicts; by default the model's own."""
    batch: Optional[int] = None  # noqa: UP045
    """Windows at once: streams in one call of the network; by default the pool's own choice."""
    out: Optional[Path] = None  # noqa: UP045
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise ShrikeError("models: one or several different ones were expected")
        if any(count < 1 for count in self.streams) or len(set(self.streams)) < len(self.streams):
            raise ShrikeError(f"--streams {self.streams}: different numbers, at least 1, were expected")
        if self.seconds < 1:
            raise ShrikeError(f"--seconds {self.seconds}: at least 1 was expected")


@dataclass(frozen=True)
class Borne:
    """What one model came to."""

    name: str
    chosen: "LoadedModel"
    speed: float  # times real time, of all streams together
    state: int  # bytes that the network remembers of a stream
    memory: float | None  # bytes of a stream in all
    notes: tuple[str, ...]  # what a reader must not overlook
    loads: "tuple[Load, ...]"  # by number of streams
    largest: int | None  # that holds; None: it was not looked for


def main() -> int:
    options = parse(Options, "benchmarks.streams", __doc__)
    from benchmarks import host
    from benchmarks.forms import resolve
    from benchmarks.latency import WATCH_EVERY
    from benchmarks.load import one_core
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, report_folder, write_report
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    load, machine = os.getloadavg()[0], host.describe()
    sounds = make_sounds(options)
    with TemporaryDirectory() as made:
        subjects = [
            resolve(name, ("u8",), Path(made) / str(place), batches=(1, 2))[0]
            for place, name in enumerate(options.models)
        ]
        with host.Watch(idle_s=0.5, interval_s=WATCH_EVERY) as watch, one_core() as core:
            found = [
                measure(name, subject, options, sounds, say)
                for name, subject in zip(options.models, subjects, strict=True)
            ]
    machine["run"] = watch.report()
    with report_folder(out, options.overwrite) as folder:
        report = make_report(options, found, machine, folder, load, core)
        write_report(folder, report)
    print("\n\n".join(table_text(table) for table in report.tables))
    for note in report.notes:
        say(f"mind: {note}")
    say(f"the whole report: {out / 'report.md'}")
    return 0


def make_sounds(options: Options) -> "list[Samples]":
    from benchmarks.speech import clips, voice

    if options.corpus is None:
        return [voice(LENGTH, seed) for seed in range(SOUNDS)]
    return [clips(options.corpus, LENGTH, seed) for seed in range(SOUNDS)]


def measure(name: str, subject: "Subject", options: Options, sounds: "list[Samples]", say: Any) -> Borne:
    from benchmarks.load import bear, memory, speed
    from runtime.engines.model_loader import load_model
    from runtime.multi_stream import StreamBatcher

    with ExitStack() as stack:
        chosen = load_model(subject.open_batch or subject.path, "auto")
        stack.callback(chosen.engine.close)
        state = StreamBatcher(chosen.engine, chosen.card.frontend, options.step, options.batch).state_bytes
        taken = memory(chosen.engine, chosen.card, sounds, options.batch)
        fast = speed(chosen.engine, chosen.card, sounds, options.step, options.batch)
        say(f"{name} with {chosen.backend}: {fast:.0f} times real time without waiting")
        loads: dict[int, Load] = {}

        def holds(streams: int) -> bool:
            if streams not in loads:
                loads[streams] = bear(
                    chosen.engine, chosen.card, sounds, streams, options.seconds, options.step, options.batch
                )
                one = loads[streams]
                word = "holds" if one.holds else "does not hold"
                late, share = one.percentile(99), 100 * one.cpu
                say(f"{name}, {streams} streams: p99 {late:.0f} ms late, {share:.0f} % of the core, {word}")
            return loads[streams].holds

        for streams in options.streams:
            holds(streams)
        largest = find_largest(holds, fast) if options.largest or not options.streams else None
        return Borne(
            name, chosen, fast, state, taken, subject.notes, tuple(loads[count] for count in sorted(loads)), largest
        )


def find_largest(holds: Any, guess: float) -> int:
    """By halving between what holds and what does not; 0 if not even one stream holds. Nothing but real time tells."""
    low, high = 0, None
    streams = max(1, int(0.8 * guess))
    while high is None or high - low > max(1, CLOSE * low):
        if holds(streams):
            low = streams
        else:
            high = streams
        streams = (low + high) // 2 if high is not None else max(low + 1, int(1.25 * low))
    return low


# ---- what is reported ------------------------------------------------------------------------------------------------


def make_report(
    options: Options, found: list[Borne], machine: dict[str, Any], folder: Path, load: float, core: int | None
) -> "Report":
    from benchmarks.latency import BUSY
    from benchmarks.plots import draw_latencies
    from benchmarks.report import Plot, new_report

    curves = {
        f"{one.name}, {load.streams}": [max(late, LEAST) for late in load.late_ms]
        for one in found
        for load in one.loads
        if load.streams in (*options.streams, one.largest)
    }
    draw_latencies(curves, folder / "late.png", "from the last sample's delivery to the score, ms")
    notes = [f"{one.name}: {note}." for one in found for note in one.notes]
    if load > BUSY:
        notes.append(
            f"The load average was {load:.1f} when it began: other work ran, and these times are not a machine's."
        )
    if core is None:
        notes.append("This system does not bind a process to one core: the figures are those of one thread.")
    conditions = {
        "models": {
            one.name: {
                "name": one.chosen.card.name,
                "precision": one.chosen.engine.precision,
                "engine": one.chosen.backend,
                "sha256": one.chosen.card.files,
            }
            for one in found
        },
        "sound": "made voices" if options.corpus is None else f"development clips of {options.corpus.resolve().name}",
        "seconds counted": options.seconds,
        "core": core,
        "streams in one call": options.batch,
    }
    tables = [largest_table(found), load_table(found)]
    plot = Plot("late.png", "Share of scores that were out so long after their last sample was delivered.")
    return new_report("streams", "Streams on one core", machine, conditions, tables, notes, [plot])


def largest_table(found: list[Borne]) -> "Table":
    from benchmarks.report import Cell, Column, Table

    rows: list[dict[str, Cell]] = []
    for one in found:
        rows.append(
            {
                "model": one.name,
                "precision": one.chosen.engine.precision,
                "given": f"{one.chosen.card.state.frames} frames" if one.chosen.card.state else "windows",
                "speed": one.speed,
                "largest": one.largest,
                "state": one.state / 1000 or None,
                "memory": None if one.memory is None else one.memory / 1000,
            }
        )
    columns = (
        Column("model", key=True),
        Column("precision"),
        Column("given"),
        Column("speed", "times real time", "higher", digits=1),
        Column("largest", "streams", "higher"),
        Column("state", "kB a stream", "lower", digits=1),
        Column("memory", "kB a stream", "lower", digits=1),
    )
    about = (
        "Speed: of 32 streams that never wait, a second of the processor's time. Largest: most streams in real time "
        "of which 99 of 100 scores come less than a step late, to 5 %. State: what the network remembers. Memory: what "
        "the process grew by for each of 240 streams: state, samples and objects, beyond weights and working memory."
    )
    return Table.of("largest", "Streams a core bears", about, columns, rows)


def load_table(found: list[Borne]) -> "Table":
    from benchmarks.report import Cell, Column, Table

    rows: list[dict[str, Cell]] = []
    for one in found:
        for load in one.loads:
            row: dict[str, Cell] = {"model": one.name, "streams": load.streams, "holds": "yes" if load.holds else "no"}
            if load.late_ms:
                row |= {f"late p{share}": load.percentile(share) for share in SHARES}
                row |= {"worst": max(load.late_ms), "scores": len(load.late_ms), "step": 1000 * load.interval}
                row["too late"] = 100 * sum(late > 1000 * load.interval for late in load.late_ms) / len(load.late_ms)
            row["CPU"] = 100 * load.cpu
            rows.append(row)
    columns = (
        Column("model", key=True),
        Column("streams", key=True),
        Column("holds"),
        Column("step", "ms", digits=1),
        Column("scores"),
        *(Column(f"late p{share}", "ms", "lower", digits=1) for share in SHARES),
        Column("worst", "ms", "lower", digits=1),
        Column("too late", "%", "lower", digits=2),
        Column("CPU", "% of the core", "lower", digits=1),
    )
    about = (
        "Late: from the delivery of the last sample that a score needs to the score. Too late: by more than a step. "
        "CPU of the process, feeding its streams included."
    )
    return Table.of("load", "Real time", about, columns, rows)


if __name__ == "__main__":
    run(main)
