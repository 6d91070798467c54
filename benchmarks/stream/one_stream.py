"""One stream: real time without and with load, and hours of sound at full speed, all scored without memory growth."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Subject
from benchmarks.report import Cell, Measured, Plot, Report, Table, new_report
from benchmarks.report.plots import draw_latencies
from benchmarks.stream.realtime import CARD_RATE, ArraySource, RealTime, busy, in_real_time, live_table, sound
from runtime.audio.features import Samples
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.jsonl import JsonLines
from runtime.summary import plural
from runtime.support.measure import resident
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict
from train.progress import Progress, say

if TYPE_CHECKING:
    from benchmarks.stream.__main__ import Options

LOOPED = 600.0  # s of sound that hours are made of
UNSCORED = 0.1  # s: more than a block and a resampler's memory
READINGS = 400  # of memory, over the whole run
SETTLING, SETTLED = 0.2, 0.25  # share of the run, and hours at least, before the slope: caches and heap fill
BATCHES = 20  # means that the slope is fitted to: neighbouring readings are alike, batch means nearly independent
STUDENT = 2.101  # 97.5 % point of Student's t with BATCHES - 2 degrees of freedom

Readings = NDArray[np.float64]  # hours of sound and MB, (readings, 2)


def report(options: "Options", subjects: Sequence[Subject], folder: Path) -> Report:
    """Real time without and with load, and hours."""
    (subject,), hours, live = subjects, None, dict[str, RealTime]()
    samples = sound(options.corpus, options.seconds, options.seed, options.partition)
    model = load_model(subject.path, "auto")
    say(f"{model.card.name} ({model.card.precision}) with {model.backend} {model.reason}".rstrip())
    with closing(model.engine):
        for count in dict.fromkeys((0, options.load)):
            name = f"{count} busy process{'es' * (count > 1)}" if count else "undisturbed"
            say(f"{options.seconds:g} s in real time, {name}")
            with busy(count):
                live[name] = in_real_time(model, samples, options.seconds, step=options.step)
        if options.hours:
            say(f"{options.hours:g} hours of sound at full speed")
            long = sound(options.corpus, min(LOOPED, 3600 * options.hours), options.seed, options.partition)
            hours = endure(model, long, options.hours, options.step)
    label = "from the sample being spoken to its verdict, ms"
    draw_latencies({name: one.spoken_ms for name, one in live.items()}, folder / "latency.png", label, "verdicts")
    conditions = {
        "engine": model.backend, "real time": f"{options.seconds:g} s", "seed": options.seed,
        "sound card": f"simulated, {CARD_RATE} Hz, 20 ms at a time",
    }  # fmt: skip
    return new_report(
        "stream", f"Streaming with {subject.model} ({model.card.name})", conditions,
        [live_table(live), *([hours.table()] if hours else [])], notes(live, hours),
        [Plot("latency.png", "Share of verdicts that were written so long after their newest sample was spoken.")],
    )  # fmt: skip


def notes(live: Mapping[str, RealTime], hours: "Endurance | None") -> list[str]:
    """Lost or unscored sound, missing verdicts, and growing memory."""
    found = [f"{name}: {one.summary.lost:.2f} s of {one.sent:.0f} s were lost." for name, one in live.items()
             if one.summary.lost]  # fmt: skip
    found += [f"{name}: {one.unscored:.2f} s were unscored at the end." for name, one in live.items()
              if one.unscored > UNSCORED]  # fmt: skip
    if hours is None:
        return found
    growth = slope(hours.readings)
    if not hours.complete:
        missing = plural(hours.sent - hours.scored, "sample"), plural(hours.missing, "verdict")
        found.append(f"INCOMPLETE: missing are {' and '.join(missing)}.")
    if growth is None:
        found.append("Too short for a slope of memory, which settles in the first quarter of an hour of sound.")
    elif growth.low is not None and growth.low > 0:
        found.append(f"Memory grows: by this slope {24 * growth.value:.2f} MB in a day of sound.")
    return found


@dataclass(frozen=True)
class Endurance:
    """Samples in, verdicts out, and memory."""

    sent: int  # samples
    scored: int  # samples by the summary
    verdicts: int
    missing: int  # verdicts that were due and did not come
    seconds: float  # of sound
    wall: float  # s
    readings: Readings

    @property
    def complete(self) -> bool:
        return self.sent == self.scored and self.missing == 0

    def table(self) -> Table:
        memory = self.readings[:, 1].tolist()
        row: dict[str, Cell] = {
            "sound": self.seconds / 3600, "speed": self.seconds / self.wall, "samples in": self.sent,
            "samples scored": self.scored, "verdicts": self.verdicts, "verdicts missing": self.missing,
            "growth": slope(self.readings),
        }  # fmt: skip
        if memory:
            row |= {"first": memory[0], "last": memory[-1], "most": max(memory)}
        about = "The session at full speed. growth: slope of its memory after settling, with 95 % interval."
        columns = (
            "sound, h .2; speed, times real time > .1; samples in; samples scored; verdicts; verdicts missing <; "
            "first, MB .1; last, MB < .1; most, MB < .1; growth, MB per hour of sound < .3"
        )
        return Table.of("hours", "Hours", about, columns, [row])


class Counter(Sink):
    """Counts verdicts, and those that were due and did not come, by the clock of the sound, and reads memory."""

    def __init__(self, seconds: float, bar: Progress) -> None:
        self._table = np.ones((READINGS + 1, 2))  # written now, so that readings add nothing to what they measure
        self._seconds, self._bar = seconds, bar
        self.verdicts, self._read, self._missing, self._last = 0, 0, 0, 0.0

    def begin(self, info: StreamInfo) -> None:
        self._interval = info.interval

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        if self.verdicts:
            self._missing += abs(round((verdict.time - self._last) / self._interval) - 1)
        self.verdicts, self._last = self.verdicts + 1, verdict.time
        if self._last >= self._read * self._seconds / READINGS and (memory := resident()) is not None:
            self._table[self._read] = self._last / 3600, memory
            self._read += 1
            self._bar.advance()

    @property
    def readings(self) -> Readings:
        return self._table[: self._read]

    @property
    def missing(self) -> int:
        """Between others, and between the last and the end."""
        return self._missing + max(0, int((self._seconds - self._last) / self._interval))


def endure(model: LoadedModel, samples: Samples, hours: float, step: int | None = None) -> Endurance:
    """Repeat `samples` for so many hours."""
    rate = model.card.frontend.rate
    total, began = round(hours * 3600 * rate), time.monotonic()
    with Progress("hours of sound", READINGS, "readings") as bar, Stop() as stop, open(os.devnull, "w") as nowhere:
        counter = Counter(total / rate, bar)
        sinks = [JsonLines(nowhere), counter]
        session = Session(model, sinks, VerdictOptions(step=step))
        summary = session.run(ArraySource(samples, rate, stop, total), stop)
        if stop.requested:
            raise KeyboardInterrupt
    scored, wall = round(summary.seconds * rate), time.monotonic() - began
    return Endurance(total, scored, counter.verdicts, counter.missing, total / rate, wall, counter.readings)


def slope(readings: Readings) -> Measured | None:
    """MB per hour of sound: least squares on batch means with Student's interval; None for too short a run."""
    hours, memory = readings.T
    settled = hours >= max(SETTLED, SETTLING * float(np.max(hours, initial=0.0)))
    if np.count_nonzero(settled) < 2 * BATCHES:
        return None
    x, y = ([part.mean() for part in np.array_split(values[settled], BATCHES)] for values in (hours, memory))
    (value, _), spread = np.polyfit(x, np.subtract(y, y[0]), 1, cov=True)  # constant memory is exactly level
    margin = STUDENT * float(spread[0, 0]) ** 0.5
    return Measured(float(value), float(value) - margin, float(value) + margin)
