"""Streaming: latency from sample to verdict, lost sound, memory over hours, many streams at once, and false alarms.

    python -m benchmarks.stream                                   # the default model on the demo's passages, 40 s
    python -m benchmarks.stream runs/a/model.onnx --corpus ../shared/corpus --load 4
    python -m benchmarks.stream edge --hours 24 --out runs/reports/day
    python -m benchmarks.stream ecanet9-streaming ecanet9 --streams 100 200      # lateness of many streams on one core
    python -m benchmarks.stream --alarms edge accurate --corpus ../shared/corpus --partition dev --hours 4

The measured parts are the product's: its session, its microphone with the bounded queue, its command and its batcher.
Only the sound card is simulated. docs/accuracy.md describes the columns.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Optional

import tyro

from runtime.card.schema import require
from runtime.engines.model_loader import DEFAULT
from runtime.support.command import FAILED, parse, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.cases import Subject
    from benchmarks.report import Report
    from benchmarks.stream.endurance import Endurance
    from benchmarks.stream.load import Load
    from benchmarks.stream.realtime import RealTime

LOOPED = 600.0  # s of sound that hours are made of
SOUNDS, LENGTH = 8, 30.0  # different sounds that many streams share, and s of each
UNSCORED = 0.1  # s: more than a block and a resampler's memory
LEAST = 1e-3  # ms: the smallest value on a logarithmic axis


@dataclass(frozen=True)
class Options:
    """Measure streaming with one model, or many streams with one or several."""

    models: tyro.conf.Positional[tuple[str, ...]] = (DEFAULT,)
    """accurate, edge, f0, model.pt, model.onnx, model.engine or a network; several with --streams or --alarms."""
    corpus: tuple[Path, ...] = ()
    """Folder of the corpus whose clips are streamed, with --alarms one or several; default: the demo's passages."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Protocol of the corpus."""
    seconds: float = 20.0
    """Seconds of sound in real time, for each condition or number of streams."""
    load: int = 2
    """Busy processes beside the second real-time run; 0 omits that run."""
    hours: float = 0.0
    """Hours of sound at full speed: with memory readings (24 is the long form, 0 omits it), or for --alarms (0: 1)."""
    streams: tuple[int, ...] = ()
    """Streams at once on one core, in real time: numbers to try, instead of everything above."""
    alarms: bool = False
    """False alarms per hour against fakes found, on streams of real clips with inserted fakes, instead of the above."""
    budget: float = 1.0
    """False alarms per hour of real speech for which --alarms names a --sure."""
    workers: int = 0
    """Processes of --alarms; 0: one for each core."""
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
        require(bool(self.models) and len(set(self.models)) == len(self.models), "MODELS: expected different ones")
        several = bool(self.streams) or self.alarms
        require(several or len(self.models) == 1, "MODELS: several; expected one without --streams or --alarms")
        require(self.seconds >= 2, f"--seconds {self.seconds}: expected at least 2; verdicts start after 1")
        require(self.load >= 0, f"--load {self.load}: expected 0 or more")
        require(self.hours >= 0, f"--hours {self.hours}: expected 0 or more")
        require(not (self.streams and (self.hours or self.alarms)), "--streams: expected without --hours and --alarms")
        require(not self.alarms or bool(self.corpus), "--alarms: needs --corpus")
        require(self.alarms or len(self.corpus) <= 1, "--corpus: several; expected one without --alarms")
        require(self.budget >= 0, f"--budget {self.budget}: expected 0 or more")
        require(self.workers >= 0, f"--workers {self.workers}: expected 0 or more")
        different = len(set(self.streams)) == len(self.streams) and all(count >= 1 for count in self.streams)
        require(different, f"--streams {self.streams}: expected different numbers, at least 1")


def main() -> int:
    options = parse(Options, "benchmarks.stream", __doc__)
    from dataclasses import replace

    from benchmarks import host
    from benchmarks.cases import resolve
    from benchmarks.report import busy_note, finish, place, report_folder, write_report

    kind = "alarms" if options.alarms else "streams" if options.streams else "stream"
    out = place(options.out, kind, options.overwrite)
    busy, machine = busy_note(), host.describe()
    with TemporaryDirectory() as exported, report_folder(out, options.overwrite) as folder:
        subjects = [
            resolve(name, ("u8",), Path(exported) / str(number), batch=2 if options.streams else 1)[0]
            for number, name in enumerate(options.models)
        ]
        with host.Watch(idle_s=0.5, interval_s=2.0) as watch:
            measure = {"alarms": false_alarms, "streams": many_streams, "stream": one_stream}[kind]
            measured = measure(options, subjects, folder)
        notes = (*busy, *(note for subject in subjects for note in subject.notes), *measured.notes)
        names = " and ".join(root.resolve().name for root in options.corpus)
        voice = f"{options.partition} clips of {names}" if names else "the demo's passages"
        report = replace(
            measured, machine=machine | {"run": watch.report()}, notes=tuple(dict.fromkeys(notes)),
            conditions={"sound": voice, **measured.conditions},
        )  # fmt: skip
        write_report(folder, report)
    finish(report, out)
    return FAILED if any(note.startswith("INCOMPLETE") for note in report.notes) else 0


def one_stream(options: Options, subjects: "list[Subject]", folder: Path) -> "Report":
    """Real time without and with load, and hours."""
    from benchmarks.report import Plot, new_report
    from benchmarks.report.plots import draw_latencies
    from benchmarks.stream.endurance import endure
    from benchmarks.stream.realtime import busy, in_real_time, live_table, sound
    from runtime.engines.model_loader import load_model
    from train.progress import say

    (subject,), live, hours = subjects, {}, None
    samples = sound(options.corpus, options.seconds, options.seed, options.partition)
    with ExitStack() as stack:
        model = load_model(subject.path, "auto")
        stack.callback(model.engine.close)
        say(f"{model.card.name} ({model.card.precision}) with {model.backend} {model.reason}".rstrip())
        for count in dict.fromkeys((0, options.load)):
            name = f"{count} busy process{'es' * (count > 1)}" if count else "undisturbed"
            say(f"{options.seconds:g} s in real time, {name}")
            with busy(count):
                live[name] = in_real_time(model, samples, options.seconds, options.device_rate, options.step)
        if options.hours:
            say(f"{options.hours:g} hours of sound at full speed")
            long = sound(options.corpus, min(LOOPED, 3600 * options.hours), options.seed, options.partition)
            hours = endure(subject.path, long, options.hours, options.step)
    label = "from the sample being spoken to its verdict, ms"
    draw_latencies(
        {name: one.spoken_ms for name, one in live.items()}, folder / "latency.png", label, "share of verdicts"
    )
    tables = [live_table(live)]
    plots = [Plot("latency.png", "Share of verdicts that were written so long after their newest sample was spoken.")]
    if hours is not None:
        tables.append(hours.table())
    conditions = {
        "model": describe(subject), "engine": model.backend, "real time": f"{options.seconds:g} s",
        "sound card": f"simulated, {options.device_rate} Hz, 20 ms at a time", "seed": options.seed,
        "frames between verdicts": options.step or "the model's own",
    }  # fmt: skip
    title = f"Streaming with {subject.model} ({model.card.name})"
    return new_report("stream", title, {}, conditions, tables, notes(live, hours), plots)


def many_streams(options: Options, subjects: "list[Subject]", folder: Path) -> "Report":
    """Every model under the load of many streams, on one core."""
    from benchmarks.report import Cell, Plot, Table, new_report
    from benchmarks.report.plots import draw_latencies
    from benchmarks.stream.load import bear, load_table, one_core, speed
    from benchmarks.stream.realtime import sound
    from runtime.engines.model_loader import load_model
    from runtime.summary import plural
    from train.progress import say

    sounds = [sound(options.corpus, LENGTH, seed, options.partition) for seed in range(SOUNDS)]
    rows: list[dict[str, Cell]] = []
    loads: dict[str, dict[int, Load]] = {}
    with one_core() as core:
        for subject in subjects:
            model = load_model(subject.path, "auto")
            fast, found = speed(model, sounds, options.step, options.batch), loads.setdefault(subject.model, {})
            say(f"{subject.model} with {model.backend}: {fast:.0f} times real time without waiting")

            for streams in options.streams:
                found[streams] = load = bear(model, sounds, streams, options.seconds, options.step, options.batch)
                word = "holds" if load.holds else "does not hold"
                say(f"{subject.model}, {plural(streams, 'stream')}: p99 {load.percentile(99):.0f} ms late, {word}")
            rows.append({
                "model": subject.model, "precision": model.engine.precision, "speed": fast,
                "input": f"{subject.frames} frames" if subject.frames else "windows",
            })  # fmt: skip
            model.engine.close()
    listed = {name: [of_model[count] for count in sorted(of_model)] for name, of_model in loads.items()}
    curves = {f"{name}, {load.streams}": [max(late, LEAST) for late in load.late_ms]
              for name, of_model in listed.items() for load in of_model}  # fmt: skip
    draw_latencies(curves, folder / "late.png", "from the last sample's delivery to the score, ms", "share of scores")
    conditions = {
        "models": {subject.model: describe(subject) for subject in subjects}, "seconds counted": options.seconds,
        "core": core, "streams in one call": options.batch or "the batcher's choice",
    }  # fmt: skip
    plots = [Plot("late.png", "Share of scores that came so long after the delivery of their last sample.")]
    notes = ["This system cannot bind a process to one core: figures of one thread."] * (core is None)
    about = "speed: of 32 streams that never wait, per second of processor time."
    columns = "model*; precision; input; speed, times real time > .1"
    tables = [Table.of("speed", "Streams on a core", about, columns, rows), load_table(listed)]
    return new_report("streams", "Streams on one core", {}, conditions, tables, notes, plots, command="stream")


def false_alarms(options: Options, subjects: "list[Subject]", folder: Path) -> "Report":
    """Every model over the same streams."""
    from benchmarks.accuracy.trials import open_trials
    from benchmarks.report import Plot, new_report
    from benchmarks.report.plots import draw_trade
    from benchmarks.stream.alarms import alarm_table, budget_table, check_calibrated, raise_alarms
    from benchmarks.stream.mixture import by_source
    from runtime.engines.model_loader import load_model
    from train.data.processes import cores
    from train.progress import say

    trials, hours, rows = open_trials(options.corpus, options.partition), options.hours or 1.0, []
    say(trials.describe())
    for subject in subjects:
        model = load_model(subject.path, "auto")
        check_calibrated(model, subject.model)
        model.engine.close()
    for subject in subjects:
        jobs = 1 if subject.form.startswith("TensorRT") else options.workers or cores()
        found = raise_alarms(subject.path, by_source(trials), hours, options.seed, jobs, options.step, subject.model)
        rows += found.rows(subject.model, options.seed)
    draw_trade(rows, folder / "alarms.png")
    conditions = {
        "models": {subject.model: describe(subject) for subject in subjects}, "hours": hours, "seed": options.seed,
        "trials": trials.describe(), "trials sha256": trials.identity(),
        "frames between verdicts": options.step or "the model's own",
    }  # fmt: skip
    plots = [Plot("alarms.png", "Fakes found against false alarms; a point for each threshold of --sure.")]
    tables = [budget_table(rows, options.budget), alarm_table(rows)]
    caveats = ["Figures of one corpus do not transfer to another."]
    title = f"Alarms on {trials.name}"
    return new_report("alarms", title, {}, conditions, tables, caveats, plots, command="stream")


def notes(live: "Mapping[str, RealTime]", hours: "Endurance | None") -> list[str]:
    from benchmarks.stream.endurance import slope
    from runtime.summary import plural

    found = [f"{name}: {one.lost:.2f} s of {one.sent:.0f} s were lost." for name, one in live.items() if one.lost]
    found += [f"{name}: {one.unscored:.2f} s were unscored at the end." for name, one in live.items()
              if one.unscored > UNSCORED]  # fmt: skip
    if hours is not None:
        growth = slope(hours.hours, hours.memory)
        if not hours.complete:
            missing = plural(hours.sent - hours.scored, "sample"), plural(hours.missing, "verdict")
            found.append(f"INCOMPLETE: missing are {' and '.join(missing)}.")
        if growth is None:
            found.append("Too short for a slope of memory, which settles in the first quarter of an hour of sound.")
        elif growth.low is not None and growth.low > 0:
            found.append(f"Memory grows: by this slope {24 * growth.value:.2f} MB in a day of sound.")
    return found


def describe(subject: "Subject") -> dict[str, Any]:
    from runtime.card.model_card import read_card

    card = read_card(subject.path)
    return {"file": subject.path.name, "name": card.name, "precision": card.precision, "sha256": card.files}


if __name__ == "__main__":
    run(main)
