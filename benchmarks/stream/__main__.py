"""Streaming: speed, latency from sample to verdict, lost sound, start-up, memory over hours, and many streams at once.

    python -m benchmarks.stream                                   # f0 on the demo's voice, about a minute and a half
    python -m benchmarks.stream runs/a/model.onnx --corpus ../shared/corpus --load 4
    python -m benchmarks.stream wide --hours 24 --out runs/reports/day
    python -m benchmarks.stream ecanet9-streaming ecanet9 --streams 100 200      # lateness of many streams on one core
    python -m benchmarks.stream deploy/model.onnx --largest                      # how many streams one core bears

The measured parts are the product's: its session, its microphone with the bounded queue, its command and its batcher.
Only the sound card is simulated. docs/accuracy.md describes the columns.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Optional

import tyro

from runtime.engines.model_loader import DEFAULT
from runtime.support.command import FAILED, parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.cases import Subject
    from benchmarks.report import Plot, Table
    from benchmarks.stream.tables import Capacity
    from runtime.audio.features import Samples
    from runtime.engines.model_loader import LoadedModel

FILE = 60.0  # s of sound in each round of file mode
LOOPED = 600.0  # s of sound that hours are made of
SOUNDS, LENGTH = 8, 30.0  # different sounds that many streams share, and s of each
CLOSE = 0.05  # precision of the largest number of streams
LEAST = 1e-3  # ms: the smallest value on a logarithmic axis


@dataclass(frozen=True)
class Options:
    """Measure streaming with one model, or many streams with one or several."""

    models: tyro.conf.Positional[tuple[str, ...]] = (DEFAULT,)
    """f0, wide, model.pt, model.onnx or model.engine, or a network by name; several with --streams or --largest."""
    corpus: Optional[Path] = None  # noqa: UP045 - runtime.support.command says why
    """Folder of the corpus whose development clips are streamed; default: the demo's voice."""
    seconds: float = 20.0
    """Seconds of sound in real time, for each condition or number of streams."""
    load: int = 2
    """Busy processes beside the second real-time run; 0 omits that run."""
    rounds: int = 3
    """Rounds of file mode and start-up."""
    hours: float = 0.0
    """Hours of sound at full speed with memory readings; 24 is the long form, 0 omits it."""
    streams: tuple[int, ...] = ()
    """Streams at once on one core, in real time: numbers to try, instead of everything above."""
    largest: bool = False
    """Search the largest number of streams of which 99 of 100 scores are less than a step late."""
    batch: Optional[int] = None  # noqa: UP045
    """Streams in one call of the network; default: the batcher's choice."""
    step: Optional[int] = None  # noqa: UP045
    """Frames of 8.125 ms between two verdicts; default: the model's own."""
    device_rate: int = 48_000
    """Hz of the simulated sound card."""
    seed: int = 0
    """Seed of the order of clips."""
    out: Optional[Path] = None  # noqa: UP045
    """Folder of the report; default: a new one under runs/reports."""
    overwrite: bool = False
    """Replace an existing report."""

    def __post_init__(self) -> None:
        several = bool(self.streams) or self.largest
        for holds, message in [
            (bool(self.models) and len(set(self.models)) == len(self.models), "MODELS: expected different ones"),
            (several or len(self.models) == 1, f"MODELS: {len(self.models)}; several need --streams or --largest"),
            (self.seconds >= 2, f"--seconds {self.seconds}: expected at least 2; verdicts start after 1"),
            (self.load >= 0, f"--load {self.load}: expected 0 or more"),
            (self.hours >= 0, f"--hours {self.hours}: expected 0 or more"),
            (not (several and self.hours), f"--hours {self.hours}: cannot be combined with --streams"),
            (self.rounds >= 1, f"--rounds {self.rounds}: expected at least 1"),
            (
                all(count >= 1 for count in self.streams) and len(set(self.streams)) == len(self.streams),
                f"--streams {self.streams}: expected different numbers, at least 1",
            ),
        ]:
            if not holds:
                raise ShrikeError(message)


def main() -> int:
    options = parse(Options, "benchmarks.stream", __doc__)
    from benchmarks import host
    from benchmarks.cases import resolve
    from benchmarks.report import busy_note, finish, new_report, place, report_folder, write_report

    several = bool(options.streams) or options.largest
    kind = "streams" if several else "stream"
    out = place(options.out, kind, options.overwrite)
    load, machine = os.getloadavg()[0], host.describe()
    with TemporaryDirectory() as exported, report_folder(out, options.overwrite) as folder:
        subjects = [
            resolve(name, ("u8",), Path(exported) / str(number), batch=2 if several else 1)[0]
            for number, name in enumerate(options.models)
        ]
        with host.Watch(idle_s=0.5, interval_s=2.0) as watch:
            found = many_streams(options, subjects, folder) if several else one_stream(options, subjects[0], folder)
        found.conditions["sound"] = (
            "the demo's voice" if options.corpus is None else f"development clips of {options.corpus.resolve().name}"
        )
        report = new_report(
            kind, found.title, machine | {"run": watch.report()}, found.conditions, found.tables,
            [*busy_note(load), *found.notes], found.plots, command="stream",
        )  # fmt: skip
        write_report(folder, report)
    finish(report, out)
    return 0 if found.complete else FAILED


@dataclass(frozen=True)
class Found:
    """The parts of a report."""

    title: str
    conditions: dict[str, Any]
    tables: "list[Table]"
    notes: list[str]
    plots: "list[Plot]"
    complete: bool = True  # every sample was scored


def one_stream(options: Options, subject: "Subject", folder: Path) -> Found:
    """File mode, start-up, real time without and with load, and hours."""
    from benchmarks.report import Plot
    from benchmarks.report.plots import draw_latencies, draw_memory
    from benchmarks.stream.endurance import endure
    from benchmarks.stream.realtime import busy, from_file, in_real_time, sound, start_up
    from benchmarks.stream.tables import hours_table, live_table, notes, speed_table
    from runtime.audio.features import RATE
    from runtime.engines.model_loader import load_model
    from train.progress import say

    samples, live, hours = sound(options.corpus, max(FILE, options.seconds), options.seed), {}, None
    with ExitStack() as stack:
        model = load_model(subject.path, "auto")
        stack.callback(model.engine.close)
        say(f"{model.card.name} ({model.card.precision}) with {model.backend}: {model.reason}")
        say("file mode, at full speed")
        files = [from_file(model, samples[: int(FILE * RATE)], options.step) for _ in range(options.rounds)]
        say("start-up of the command, to its first verdict")
        starts = [start_up(subject.path, samples) for _ in range(options.rounds)]
        for count in dict.fromkeys((0, options.load)):
            name = f"{count} busy process{'es' * (count > 1)}" if count else "undisturbed"
            say(f"{options.seconds:g} s in real time, {name}")
            with busy(count):
                live[name] = in_real_time(model, samples, options.seconds, options.device_rate, options.step)
        if options.hours:
            say(f"{options.hours:g} hours of sound at full speed")
            long = sound(options.corpus, min(LOOPED, 3600 * options.hours), options.seed)
            hours = endure(subject.path, long, options.hours, options.step)
    label = "from the sample being spoken to its verdict, ms"
    spoken = {name: one.spoken_ms for name, one in live.items()}
    draw_latencies(spoken, folder / "latency.png", label, "share of verdicts")
    tables = [speed_table(files, starts), live_table(live)]
    plots = [Plot("latency.png", "Share of verdicts that were written so long after their newest sample was spoken.")]
    if hours is not None:
        tables.append(hours_table(hours))
        if len(hours.hours):
            line = None if hours.slope is None else (hours.slope.value, hours.slope.intercept)
            begin = hours.slope.begin if hours.slope else 0.0
            draw_memory(hours.hours, hours.memory, line, begin, folder / "memory.png")
            plots.append(Plot("memory.png", "Resident memory of the command over the streamed sound."))
    conditions = {
        "model": describe(subject, model),
        "sound card": f"simulated, {options.device_rate} Hz, 20 ms at a time",
        "real time": f"{options.seconds:g} s",
        "frames between verdicts": options.step or "the model's own",
        "rounds": options.rounds,
        "seed": options.seed,
    }
    title = f"Streaming with {subject.model} ({model.card.name})"
    found = [*subject.notes, *notes(live, hours)]
    return Found(title, conditions, tables, found, plots, hours is None or hours.complete)


def many_streams(options: Options, subjects: "list[Subject]", folder: Path) -> Found:
    """Every model under the load of many streams, on one core."""
    from benchmarks.report import Plot
    from benchmarks.report.plots import draw_latencies
    from benchmarks.stream.load import one_core
    from benchmarks.stream.realtime import sound
    from benchmarks.stream.tables import capacity_table, load_table

    sounds = [sound(options.corpus, LENGTH, seed) for seed in range(SOUNDS)]
    with one_core() as core:
        found = [capacity(options, subject, sounds) for subject in subjects]
    curves = {
        f"{one.name}, {load.streams}": [max(late, LEAST) for late in load.late_ms]
        for one in found
        for load in one.loads
        if load.streams in (*options.streams, one.largest)
    }
    label = "from the last sample's delivery to the score, ms"
    draw_latencies(curves, folder / "late.png", label, "share of scores")
    notes = list(dict.fromkeys(note for subject in subjects for note in subject.notes))
    notes += ["This system cannot bind a process to one core: figures of one thread."] * (core is None)
    conditions = {
        "models": {one.name: describe(subject, one.model) for one, subject in zip(found, subjects, strict=True)},
        "seconds counted": options.seconds,
        "core": core,
        "streams in one call": options.batch or "the batcher's choice",
    }
    plots = [Plot("late.png", "Share of scores that came so long after the delivery of their last sample.")]
    return Found("Streams on one core", conditions, [capacity_table(found), load_table(found)], notes, plots)


def capacity(options: Options, subject: "Subject", sounds: "list[Samples]") -> "Capacity":
    """Speed, memory and lateness of one model."""
    from benchmarks.stream.load import Load, bear, speed
    from benchmarks.stream.tables import Capacity
    from runtime.engines.model_loader import load_model
    from train.progress import say

    with ExitStack() as stack:
        model = load_model(subject.path, "auto")
        stack.callback(model.engine.close)
        engine, card = model.engine, model.card
        fast = speed(engine, card, sounds, options.step, options.batch)
        say(f"{subject.model} with {model.backend}: {fast:.0f} times real time without waiting")
        loads: dict[int, Load] = {}

        def holds(streams: int) -> bool:
            if streams not in loads:
                one = bear(engine, card, sounds, streams, options.seconds, options.step, options.batch)
                loads[streams], late = one, one.percentile(99)
                word = "holds" if one.holds else "does not hold"
                say(f"{subject.model}, {streams} streams: p99 {late:.0f} ms late, {one.cpu:.0%} of the core, {word}")
            return loads[streams].holds

        for streams in options.streams:
            holds(streams)
        largest = find_largest(holds, fast) if options.largest else None
        return Capacity(subject.model, model, fast, tuple(loads[count] for count in sorted(loads)), largest)


def find_largest(holds: "Callable[[int], bool]", guess: float) -> int:
    """Bisect between numbers that hold and that do not; 0 if one stream does not hold."""
    low, high = 0, None
    streams = max(1, int(0.8 * guess))
    while high is None or high - low > max(1, CLOSE * low):
        if holds(streams):
            low = streams
        else:
            high = streams
        streams = (low + high) // 2 if high is not None else max(low + 1, int(1.25 * low))
    return low


def describe(subject: "Subject", model: "LoadedModel") -> dict[str, Any]:
    return {
        "file": subject.path.name,
        "name": model.card.name,
        "precision": model.engine.precision,
        "engine": model.backend,
        "sha256": model.card.files,
    }


if __name__ == "__main__":
    run(main)
