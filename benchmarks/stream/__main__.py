"""Streaming: latency from sample to verdict, lost sound, memory over hours, many streams at once, and false alarms.

    python -m benchmarks.stream                                   # the default model on the demo's passages, 40 s
    python -m benchmarks.stream runs/a/model.onnx --corpus ../shared/corpus --load 4
    python -m benchmarks.stream edge --hours 24 --out runs/reports/day
    python -m benchmarks.stream ecanet9-streaming ecanet9 --streams 100 200      # lateness of many streams on one core
    python -m benchmarks.stream --alarms edge accurate --corpus ../shared/corpus --partition dev --hours 4

The measured parts are the product's: its session, its microphone with the bounded queue, its command and its batcher.
Only the sound card is simulated. docs/accuracy.md describes the columns.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Optional

import tyro

from benchmarks.report import Report, ReportOptions, produce
from runtime.card.schema import require
from runtime.engines.model_loader import DEFAULT
from runtime.support.command import FAILED, parse, run


@dataclass(frozen=True)
class Options(ReportOptions):
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
    """Frames between two verdicts, of 8.125 ms (log-mel: 10 ms); default: the model's own."""
    seed: int = 0
    """Seed of the order of clips."""

    def __post_init__(self) -> None:
        require(bool(self.models) and len(set(self.models)) == len(self.models), "MODELS: expected different ones")
        several = bool(self.streams) or self.alarms
        require(several or len(self.models) == 1, "MODELS: several; expected one without --streams or --alarms")
        require(self.seconds >= 2, f"--seconds {self.seconds}: expected at least 2; verdicts start after 1")
        self.check_least(load=0, hours=0, budget=0, workers=0)
        require(not (self.streams and (self.hours or self.alarms)), "--streams: expected without --hours and --alarms")
        require(not self.alarms or bool(self.corpus), "--alarms: needs --corpus")
        require(self.alarms or len(self.corpus) <= 1, "--corpus: several; expected one without --alarms")
        different = len(set(self.streams)) == len(self.streams) and all(count >= 1 for count in self.streams)
        require(different, f"--streams {self.streams}: expected different numbers, at least 1")


def main() -> int:
    options = parse(Options, "benchmarks.stream", __doc__)
    kind = "alarms" if options.alarms else "streams" if options.streams else "stream"
    report = produce(options, kind, partial(measure, options))
    return FAILED if any(note.startswith("INCOMPLETE") for note in report.notes) else 0


def measure(options: Options, folder: Path) -> Report:
    """Resolve the models, and measure them by the module of this kind of report."""
    from benchmarks.cases import resolve
    from benchmarks.stream import alarms, load, one_stream
    from runtime.card.model_card import read_card

    with TemporaryDirectory() as exported:
        subjects = [
            resolve(name, ("u8",), Path(exported) / str(number), batch=2 if options.streams else 1)[0]
            for number, name in enumerate(options.models)
        ]
        found = (alarms if options.alarms else load if options.streams else one_stream).report(
            options, subjects, folder
        )
        cards = {subject: read_card(subject.path) for subject in subjects}
    models = {
        subject.model: {"file": subject.path.name, "name": card.name, "precision": card.precision, "sha256": card.files}
        for subject, card in cards.items()
    }
    names = " and ".join(root.resolve().name for root in options.corpus)
    voice = f"{options.partition} clips of {names}" if names else "the demo's passages"
    conditions = {"sound": voice, "models": models, "frames between verdicts": options.step or "the model's own"}
    notes = (*(note for subject in subjects for note in subject.notes), *found.notes)
    return replace(found, notes=notes, conditions=conditions | found.conditions)


if __name__ == "__main__":
    run(main)
