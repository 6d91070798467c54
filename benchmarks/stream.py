"""What a stream costs and whether it keeps up: speed, latency, lost sound, CPU, start-up, and memory over hours.

    python -m benchmarks.stream                                   # f0 on a made voice, about a minute and a half
    python -m benchmarks.stream runs/a/model.onnx --corpus ../shared/corpus --load 4
    python -m benchmarks.stream wide --hours 24 --out runs/reports/day

The parts that are measured are the product's: its session, its microphone with the queue that drops and counts, its
command. Only the sound card is made by code. docs/accuracy.md says what the columns mean.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import tyro

from runtime.engines.model_loader import DEFAULT
from runtime.support.command import FAILED, parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.endurance import Endurance
    from benchmarks.pacing import RealTime
    from benchmarks.report import Report
    from runtime.audio.features import Samples
    from runtime.engines.model_loader import LoadedModel
    from runtime.summary import Cost

OUT = "runs/reports/stream-%Y%m%d-%H%M%S"
FILE = 60.0  # s of sound in each round of file mode
SHORT = 8.0  # s of sound in the file whose first verdict is waited for
LOOPED = 600.0  # s of sound that hours are made of


@dataclass(frozen=True)
class Options:
    """Measure streaming with one model."""

    model: tyro.conf.Positional[str] = DEFAULT
    """f0, wide, or a path to model.onnx or model.engine with its card beside it."""
    corpus: Path | None = None
    """Folder of the corpus whose development clips are streamed; without it a voice that code makes."""
    seconds: float = 20.0
    """Seconds of sound in real time, once undisturbed and once under load."""
    load: int = 2
    """Processes that do nothing but take CPU time while the second real-time run goes on; 0 leaves that run out."""
    rounds: int = 3
    """How often file mode and start-up are measured."""
    hours: float = 0.0
    """Hours of sound at full speed, with memory watched; 24 is the long form, 0 leaves it out."""
    step: Optional[int] = None  # noqa: UP045 - runtime.support.command says why
    """Frames of 8.125 ms between two verdicts; by default the model's own."""
    device_rate: int = 48_000
    """Hz of the made sound card: what it delivers is resampled as a microphone's sound is."""
    seed: int = 0
    """Everything random follows from it: which voice, and which clips."""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""

    def __post_init__(self) -> None:
        demands = [
            (self.seconds >= 2, f"--seconds {self.seconds}: at least 2 were expected, for verdicts come from 1 s on"),
            (self.load >= 0 and self.hours >= 0, "--load and --hours: 0 or more was expected"),
            (self.rounds >= 1, f"--rounds {self.rounds}: at least 1 was expected"),
        ]
        for holds, sentence in demands:
            if not holds:
                raise ShrikeError(sentence)


def main() -> int:
    options = parse(Options, "benchmarks.stream", __doc__)
    from benchmarks import host
    from benchmarks.endurance import endure
    from benchmarks.latency import WATCH_EVERY
    from benchmarks.markdown import table_text
    from benchmarks.pacing import from_file, in_real_time
    from benchmarks.report import check_place, report_folder, write_report
    from runtime.audio.features import RATE
    from runtime.engines.model_loader import find_model, load_model
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    load, machine, hours = os.getloadavg()[0], host.describe(), None
    with ExitStack() as stack:
        chosen = load_model(find_model(options.model), "auto")
        stack.callback(chosen.engine.close)
        say(f"{chosen.card.name} ({chosen.card.precision}) with {chosen.backend}: {chosen.reason}")
        samples = sound(options, max(FILE, options.seconds))
        watch = stack.enter_context(host.Watch(idle_s=0.5, interval_s=WATCH_EVERY))
        say("file mode, as fast as it goes")
        files = [from_file(chosen, samples[: int(FILE * RATE)], options.step) for _ in range(options.rounds)]
        say("start-up of the command, to its first verdict")
        starts = [start_up(options, samples) for _ in range(options.rounds)]
        live = {}
        for count in dict.fromkeys((0, options.load)):
            name = f"{count} busy process{'es' * (count > 1)}" if count else "undisturbed"
            say(f"{options.seconds:g} s in real time, {name}")
            with busy(count):
                live[name] = in_real_time(chosen, samples, options.seconds, options.device_rate, options.step)
        if options.hours:
            say(f"{options.hours:g} hours of sound at full speed")
            long = sound(options, min(LOOPED, 3600 * options.hours))
            hours = endure(options.model, long, options.hours, options.step)
    machine["run"] = watch.report()
    with report_folder(out, options.overwrite) as folder:
        found = Found(chosen, files, starts, live, hours, load)
        report = make_report(options, found, machine, folder)
        write_report(folder, report)
    print("\n\n".join(table_text(table) for table in report.tables))
    for note in report.notes:
        say(f"mind: {note}")
    say(f"the whole report: {out / 'report.md'}")
    return 0 if hours is None or hours.complete else FAILED  # samples went in that no score came of


# ---- what is measured here; the rest is in pacing.py and endurance.py -----------------------------------------------


def sound(options: Options, seconds: float) -> "Samples":
    from benchmarks.speech import clips, voice

    return voice(seconds, options.seed) if options.corpus is None else clips(options.corpus, seconds, options.seed)


def start_up(options: Options, samples: "Samples") -> float:
    """Seconds from starting the command to its first verdict, a line of JSON on its stdout."""
    import tempfile

    import soundfile

    from runtime.audio.features import RATE

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.flac"
        soundfile.write(path, samples[: int(SHORT * RATE)], RATE)
        words = [sys.executable, "-m", "runtime.stream", "--json", "--model", options.model, "--file", str(path)]
        began = time.perf_counter()
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            first = next((time.perf_counter() for line in process.stdout if '"type": "verdict"' in line), None)
            process.stdout.read()
            said = process.stderr.read()
    if first is None:
        raise ShrikeError(f"python -m runtime.stream gave no verdict: {said.strip()}")
    return first - began


@contextmanager
def busy(count: int) -> Iterator[None]:
    """That many processes of pure work beside us."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


# ---- what is reported ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Everything that was measured."""

    chosen: "LoadedModel"
    files: "list[tuple[float, Cost]]"  # speed and what it cost, of every round
    starts: list[float]  # s
    live: "dict[str, RealTime]"  # by condition
    hours: "Endurance | None"
    load: float  # average when it began


def make_report(options: Options, found: Found, machine: dict[str, Any], folder: Path) -> "Report":
    from benchmarks.plots import draw_latencies, draw_memory
    from benchmarks.report import Plot, new_report
    from benchmarks.streamed import hours_table, live_table, notes, speed_table
    from runtime.audio.framer import STEP

    live, hours, card = found.live, found.hours, found.chosen.card
    draw_latencies({name: one.spoken_ms for name, one in live.items()}, folder / "latency.png")
    tables = [speed_table(found.files, found.starts), live_table(live)]
    plots = [Plot("latency.png", "Share of verdicts that were out so long after their newest sample was spoken.")]
    if hours is not None:
        tables.append(hours_table(hours))
        if len(hours.hours):
            line = None if hours.slope is None else (hours.slope.value, hours.slope.intercept)
            begin = hours.slope.begin if hours.slope else 0.0
            draw_memory(hours.hours, hours.memory, line, begin, folder / "memory.png")
            plots.append(Plot("memory.png", "Resident memory of the command over the sound it was given."))
    conditions = {
        "model": {
            "file": Path(options.model).name,
            "name": card.name,
            "precision": found.chosen.engine.precision,
            "engine": found.chosen.backend,
            "sha256": card.files,
        },
        "sound": "a made voice" if options.corpus is None else f"development clips of {options.corpus.resolve().name}",
        "sound card": f"{options.device_rate} Hz, 20 ms at a time",
        "real time": f"{options.seconds:g} s",
        "frames between verdicts": options.step or (card.state.frames if card.state else STEP),
        "rounds": options.rounds,
        "seed": options.seed,
    }
    title = f"Streaming with {Path(options.model).name} ({card.name})"
    return new_report("stream", title, machine, conditions, tables, notes(live, hours, found.load), plots)


if __name__ == "__main__":
    run(main)
