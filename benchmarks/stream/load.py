"""Load generator: many streams in real time through one batcher on one core, and the lateness of their scores.

Each stream delivers 20 ms at a time, as a sound card does; blocks are spread evenly over these 20 ms and steps over a
step, as those of calls that began at any time are. Lateness counts from the delivery of a score's last sample.
"""

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cases import Subject
from benchmarks.report import Cell, Plot, Report, Table, new_report
from benchmarks.report.plots import draw_latencies
from benchmarks.stats import no_garbage_collection
from benchmarks.stream.realtime import sound
from runtime.audio.features import Samples
from runtime.audio.score_times import EARLIEST
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.multi_stream import StreamBatcher
from runtime.summary import plural
from train.progress import say

if TYPE_CHECKING:
    from benchmarks.stream.__main__ import Options

SOUNDS, LENGTH = 8, 30.0  # different sounds that the streams share, and s of each
LEAST = 1e-3  # ms: the smallest value on a logarithmic axis
PACE = 0.02  # s of sound that a stream delivers at once
SPREAD = 0.618034  # golden ratio: no two of a few hundred streams take their steps at the same moment
SLEEP = 5e-3  # s at least: a loop that turns for every chunk would find no two steps due at once
SETTLING = 2.0  # s of sound that are not counted
FULL, FLAT_OUT = 32, 5.0  # streams whose speed is measured without waiting, and s of sound of each


@dataclass(frozen=True)
class Load:
    """The result of so many streams."""

    streams: int
    interval: float  # s between a stream's scores
    late_ms: tuple[float, ...]  # of every score
    kept_up: bool  # false: it fell far behind and was aborted
    cpu: float  # share of the core

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.late_ms, percent)) if self.late_ms else float("inf")

    @property
    def holds(self) -> bool:
        """99 of 100 scores are less than a step late."""
        return self.kept_up and self.percentile(99) <= 1000 * self.interval


def report(options: "Options", subjects: Sequence[Subject], folder: Path) -> Report:
    """Every model under the load of many streams, on one core."""
    sounds = [sound(options.corpus, LENGTH, seed, options.partition) for seed in range(SOUNDS)]
    rows, loads = list[dict[str, Cell]](), dict[str, list[Load]]()
    with one_core() as core:
        for subject in subjects:
            model = load_model(subject.path, "auto")
            with closing(model.engine):
                fast, loads[subject.model] = speed(model, sounds, options.step, options.batch), []
                say(f"{subject.model} with {model.backend}: {fast:.0f} times real time without waiting")
                for streams in sorted(options.streams):
                    load = bear(model, sounds, streams, options.seconds, options.step, options.batch)
                    loads[subject.model].append(load)
                    word = "holds" if load.holds else "does not hold"
                    say(f"{subject.model}, {plural(streams, 'stream')}: p99 {load.percentile(99):.0f} ms late, {word}")
            rows.append({
                "model": subject.model, "precision": model.engine.precision, "speed": fast,
                "input": f"{subject.frames} frames" if subject.frames else "windows",
            })  # fmt: skip
    curves = {f"{name}, {load.streams}": np.maximum(load.late_ms, LEAST).tolist()
              for name, of_model in loads.items() for load in of_model}  # fmt: skip
    draw_latencies(curves, folder / "late.png", "from the last sample's delivery to the score, ms", "scores")
    about = "speed: of 32 streams that never wait, per second of processor time."
    columns = "model*; precision; input; speed, times real time > .1"
    most = options.batch or "the batcher's choice"
    return new_report(
        "streams", "Streams on one core",
        {"seconds counted": options.seconds, "core": core, "streams in one call": most},
        [Table.of("speed", "Streams on a core", about, columns, rows), load_table(loads)],
        ["This system cannot bind a process to one core: figures of one thread."] * (core is None),
        [Plot("late.png", "Share of scores that came so long after the delivery of their last sample.")],
    )  # fmt: skip


@contextmanager
def one_core() -> Iterator[int | None]:
    """Bind this process to the last of its cores; None where the system cannot."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    if before:
        os.sched_setaffinity(0, {max(before)})
    try:
        yield max(before, default=None)
    finally:
        with suppress(OSError, AttributeError):
            os.sched_setaffinity(0, before)


class Fleet:
    """Streams of one batcher with endless sound, each somewhere within its step."""

    def __init__(
        self, model: LoadedModel, sounds: Sequence[Samples], count: int, step: int | None, most: int | None
    ) -> None:
        self.batcher, rate = StreamBatcher(model.engine, model.card.frontend, step, most), model.card.frontend.rate
        self._rate, self._chunk = rate, round(PACE * rate)
        self._streams, self._chunks, self._leads = [], [], list[int]()
        for number in range(count):
            sound = np.roll(sounds[number % len(sounds)], -7919 * number)  # not all in the same place
            stream, chunks = self.batcher.create_stream(), sound[: len(sound) // self._chunk * self._chunk]
            self._streams.append(stream)
            self._chunks.append(itertools.cycle(chunks.reshape(-1, self._chunk)))
            # Samples that are pushed before the clock starts: an arbitrary part of a step.
            self._leads.append(round((EARLIEST + number * SPREAD % 1 * self.batcher.interval) * rate))
            stream.accept_waveform(sound[: self._leads[-1]])
        self.decode()

    def push(self, number: int) -> None:
        """Deliver a stream's next chunk."""
        self._streams[number].accept_waveform(next(self._chunks[number]))

    def decode(self) -> list[tuple[int, int]]:
        """Compute everything that is due; of each score its stream and the chunk that completed it."""
        ready = [number for number, stream in enumerate(self._streams) if self.batcher.is_ready(stream)]
        self.batcher.decode_all([self._streams[number] for number in ready])
        scores = [(number, score) for number in ready for score in self.batcher.get_result(self._streams[number])]
        return [(number, -(-(round(score.time * self._rate) - self._leads[number]) // self._chunk) - 1)
                for number, score in scores]  # fmt: skip


def bear(
    model: LoadedModel, sounds: Sequence[Samples], streams: int, seconds: float,
    step: int | None = None, most: int | None = None,
) -> Load:  # fmt: skip
    """Run SETTLING + `seconds` in real time; abort when it falls too far behind to hold."""
    fleet, late = Fleet(model, sounds, streams, step, most), list[float]()
    events, counted = (round(length / PACE) * streams for length in (SETTLING + seconds, SETTLING))
    began, done, cpu, measured = time.monotonic(), 0, 0.0, 0.0

    def due(event: int) -> float:
        """Time of a chunk's delivery."""
        return began + (event + 1) * PACE / streams

    with no_garbage_collection():
        while done < events and (now := time.monotonic()) - due(done) <= max(seconds, 1.0):
            if now < due(done):
                time.sleep(max(SLEEP, due(done) - now))
                continue
            if done >= counted and not cpu:
                cpu, measured = time.process_time(), now
            until = min(events, int((now - began) * streams / PACE))
            for event in range(done, until):
                fleet.push(event % streams)
            done, scored = until, [chunk * streams + number for number, chunk in fleet.decode()]
            now = time.monotonic()
            late += [1000 * (now - due(event)) for event in scored if event >= counted]
        share = (time.process_time() - cpu) / (time.monotonic() - measured) if cpu else 1.0
    return Load(streams, fleet.batcher.interval, tuple(late), done == events, share)


def speed(model: LoadedModel, sounds: Sequence[Samples], step: int | None = None, most: int | None = None) -> float:
    """Seconds of sound per second of processor time, of FULL streams at full speed; other work disturbs it little."""
    fleet = Fleet(model, sounds, FULL, step, most)
    began, done, spent = time.process_time(), 0, 0.0
    while done < FLAT_OUT / PACE and spent < FLAT_OUT:
        for number in range(FULL):
            fleet.push(number)
        fleet.decode()
        done, spent = done + 1, time.process_time() - began
    return FULL * done * PACE / spent


def load_table(loads: Mapping[str, Sequence[Load]]) -> Table:
    """By model."""
    rows: list[dict[str, Cell]] = []
    for name, load in ((name, load) for name, of_model in loads.items() for load in of_model):
        row: dict[str, Cell] = {"model": name, "streams": load.streams, "holds": "yes" if load.holds else "no"}
        if load.late_ms:
            row |= {f"late p{share}": load.percentile(share) for share in (50, 95, 99)}
            row |= {"worst": max(load.late_ms), "scores": len(load.late_ms), "step": 1000 * load.interval}
            row["too late"] = 100 * sum(late > 1000 * load.interval for late in load.late_ms) / len(load.late_ms)
        rows.append(row | {"CPU": 100 * load.cpu})
    about = "late: from the delivery of a score's last sample to the score. too late: by more than a step."
    columns = (
        "model*; streams*; holds; step, ms .1; scores; late p50, ms < .1; late p95, ms < .1; late p99, ms < .1; "
        "worst, ms < .1; too late, % < .2; CPU, % of the core < .1"
    )
    return Table.of("load", "Real time", about, columns, rows)
