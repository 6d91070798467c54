"""Load generator: many streams in real time through one batcher on one core, and the lateness of their scores.

    load = bear(model, sounds, streams=200, seconds=10.0)
    load.late_ms, load.cpu, load.holds

Each stream delivers 20 ms at a time, as a sound card does; blocks are spread evenly over these 20 ms and steps over a
step, as those of calls that began at any time are. Lateness counts from the delivery of a score's last sample.

    stream 0    |320 samples         |320 samples         |
    stream 1      |320 samples         |320 samples       ...
    loop        push push ... decode, push push push ... decode, sleep
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.report import Cell, Table
from benchmarks.stats import no_garbage_collection
from runtime.audio.features import Samples
from runtime.audio.score_times import EARLIEST
from runtime.engines.model_loader import LoadedModel
from runtime.multi_stream import BatchedStream, StreamBatcher

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


class Caller:
    """One stream and its endless sound."""

    def __init__(self, stream: BatchedStream, sound: Samples, number: int) -> None:
        self.stream, self.rate, self._sound = stream, stream.framer.frontend.rate, sound
        self._at = number * 7919 % len(sound)  # not all in the same place
        self.chunk = round(PACE * self.rate)
        # Samples that are pushed before the clock starts: an arbitrary part of a step.
        self.lead = round((EARLIEST + number * SPREAD % 1 * stream.framer.interval) * self.rate)

    def push(self, samples: int) -> None:
        self._at = self._at if self._at + samples <= len(self._sound) else 0
        self.stream.accept_waveform(self._sound[self._at : self._at + samples])
        self._at += samples

    def completed_by(self, seconds: float) -> int:
        """Number of the chunk that completed the score of this time."""
        return -(-(round(seconds * self.rate) - self.lead) // self.chunk) - 1


def create_all(batcher: StreamBatcher, sounds: Sequence[Samples], streams: int) -> list[Caller]:
    """New streams, each somewhere within its step."""
    callers = [Caller(batcher.create_stream(), sounds[n % len(sounds)], n) for n in range(streams)]
    for caller in callers:
        caller.push(caller.lead)
        for stream in decoded(batcher, [caller]):
            batcher.get_result(stream)
    return callers


def decoded(batcher: StreamBatcher, callers: Iterable[Caller]) -> list[BatchedStream]:
    """Compute everything that is due, and return the streams that were."""
    ready = [caller.stream for caller in callers if batcher.is_ready(caller.stream)]
    batcher.decode_all(ready)
    return ready


def bear(
    model: LoadedModel, sounds: Sequence[Samples], streams: int, seconds: float,
    step: int | None = None, most: int | None = None,
) -> Load:  # fmt: skip
    """Run SETTLING + `seconds` in real time; abort when it falls too far behind to hold."""
    batcher = StreamBatcher(model.engine, model.card.frontend, step, most)
    callers = create_all(batcher, sounds, streams)
    place = {caller.stream: number for number, caller in enumerate(callers)}
    events, counted = (round(length / PACE) * streams for length in (SETTLING + seconds, SETTLING))
    late: list[float] = []
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
                callers[event % streams].push(callers[event % streams].chunk)
            done = until
            for stream in decoded(batcher, callers):
                now, number = time.monotonic(), place[stream]
                chunks = [callers[number].completed_by(score.time) for score in batcher.get_result(stream)]
                scored = [chunk * streams + number for chunk in chunks]
                late += [1000 * (now - due(event)) for event in scored if event >= counted]
        share = (time.process_time() - cpu) / (time.monotonic() - measured) if cpu else 1.0
    return Load(streams, batcher.interval, tuple(late), done == events, share)


def speed(model: LoadedModel, sounds: Sequence[Samples], step: int | None = None, most: int | None = None) -> float:
    """Seconds of sound per second of processor time, of FULL streams at full speed; other work disturbs it little."""
    batcher = StreamBatcher(model.engine, model.card.frontend, step, most)
    callers = create_all(batcher, sounds, FULL)
    began, done, spent = time.process_time(), 0, 0.0
    while done < FLAT_OUT / PACE and spent < FLAT_OUT:
        for caller in callers:
            caller.push(caller.chunk)
        decoded(batcher, callers)
        done, spent = done + 1, time.process_time() - began
    return FULL * done * PACE / spent


def load_table(loads: Mapping[str, Sequence[Load]]) -> Table:
    """By model."""
    rows: list[dict[str, Cell]] = []
    for name, load in [(name, load) for name, loads_of in loads.items() for load in loads_of]:
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
