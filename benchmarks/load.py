"""Many streams at the pace of speech through one batcher, on one core: how late their scores are.

    run = bear(engine, card, clips, streams=200, seconds=10.0)
    run.late_ms, run.cpu, run.holds

Each stream delivers 20 ms at a time, as a sound card does, and all of them spread evenly over these 20 ms. Their steps
are spread as well, as those of calls that began at any time are. Lateness counts from the moment the last sample that a
score needs was delivered.

    stream 0    |320 samples         |320 samples         |
    stream 1      |320 samples         |320 samples       ...
    stream 2        |320 samples         |320 samples
    loop        push push ... decode, push push push ... decode, sleep
"""

import ctypes
import gc
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.timing import no_garbage_collection
from runtime.audio.features import Samples
from runtime.audio.framer import Score
from runtime.audio.score_times import EARLIEST
from runtime.card.model_card import ModelCard
from runtime.engines import Engine
from runtime.multi_stream import BatchedStream, StreamBatcher
from runtime.support.measure import resident

PACE = 0.02  # s of sound that a stream delivers at once
SPREAD = 0.618034  # golden ratio: no two streams of a few hundred take their steps at the same moment
LATE = 99  # percentile that must be less than a step late
SLEEP = 5e-3  # s at least: a loop that turns for every chunk of every stream finds no two that are due at once
SETTLING = 2.0  # s of sound that are heard and not counted
FLAT_OUT = 5.0  # s of sound for each of the streams that the speed is taken from
FULL = 32  # of these
COUNTED = 240  # streams whose memory is looked at; with a full call's they fill the rows of their states


@dataclass(frozen=True)
class Load:
    """What so many streams came to."""

    streams: int
    seconds: float  # of sound, of each, that were counted
    interval: float  # s between a stream's scores
    late_ms: tuple[float, ...]  # of every score
    kept_up: bool  # false: it fell so far behind that it was given up
    cpu: float  # share of the core

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.late_ms, percent)) if self.late_ms else float("inf")

    @property
    def holds(self) -> bool:
        """All but one score in a hundred less than a step late."""
        return self.kept_up and self.percentile(LATE) <= 1000 * self.interval


@contextmanager
def one_core() -> Iterator[int | None]:
    """This process, and what it starts, on the last of its cores; None where the system has no such thing."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)


class Caller:
    """One stream and its endless sound."""

    def __init__(self, stream: BatchedStream, sound: Samples, number: int) -> None:
        self.stream, self._sound = stream, sound
        self._at = number * 7919 % len(sound)  # not all in the same place
        self.chunk = round(PACE * stream.framer.frontend.rate)
        rate, step = stream.framer.frontend.rate, stream.framer.interval * stream.framer.frontend.rate
        self.lead = round(EARLIEST * rate + number * SPREAD % 1 * step)  # samples before the clock starts

    def push(self, samples: int = 0) -> None:
        samples = samples or self.chunk
        if self._at + samples > len(self._sound):
            self._at = 0
        self.stream.accept_waveform(self._sound[self._at : self._at + samples])
        self._at += samples


def create_all(batcher: StreamBatcher, sounds: Sequence[Samples], streams: int) -> list[Caller]:
    """Streams in the middle of their calls."""
    callers = []
    for number in range(streams):
        caller = Caller(batcher.create_stream(), sounds[number % len(sounds)], number)
        caller.push(caller.lead)
        for stream in decoded(batcher, [caller]):
            batcher.get_result(stream)
        callers.append(caller)
    return callers


def decoded(batcher: StreamBatcher, callers: Iterable[Caller]) -> list[BatchedStream]:
    """Compute all that is due; return the streams that were."""
    ready = [caller.stream for caller in callers if batcher.is_ready(caller.stream)]
    batcher.decode_all(ready)
    return ready


def bear(
    engine: Engine,
    card: ModelCard,
    sounds: Sequence[Samples],
    streams: int,
    seconds: float,
    step: int | None = None,
    most: int | None = None,
) -> Load:
    """Real time for SETTLING + `seconds`; ends early where it falls so far behind that it cannot hold."""
    batcher = StreamBatcher(engine, card.frontend, step, most)
    callers = create_all(batcher, sounds, streams)
    place = {caller.stream: number for number, caller in enumerate(callers)}
    events, counted = (round(length / PACE) * streams for length in (SETTLING + seconds, SETTLING))
    late: list[float] = []
    with no_garbage_collection():
        began, done, cpu, measured = time.monotonic(), 0, 0.0, 0.0

        def due(event: int) -> float:
            """When a chunk was delivered."""
            return began + (event + 1) * PACE / streams

        while done < events:
            now = time.monotonic()
            if now < due(done):
                time.sleep(max(SLEEP, due(done) - now))
                continue
            if now - due(done) > max(seconds, 1.0):
                break  # hopeless
            if done >= counted and not cpu:
                cpu, measured = time.process_time(), now
            until = min(events, int((now - began) * streams / PACE))
            for event in range(done, until):
                callers[event % streams].push()
            done = until
            for stream in decoded(batcher, callers):
                now, number = time.monotonic(), place[stream]
                for score in batcher.get_result(stream):
                    event = _event(score, callers[number], number, streams)
                    if event >= counted:
                        late.append(1000 * (now - due(event)))
        share = (time.process_time() - cpu) / (time.monotonic() - measured) if cpu else 1.0
    return Load(streams, seconds, batcher.interval, tuple(late), done == events, share)


def speed(engine: Engine, card: ModelCard, sounds: Sequence[Samples], step: int | None, most: int | None) -> float:
    """Seconds of sound for a second of the processor's time, of FULL streams as fast as they go: what a core could bear
    if nobody had to wait. Other work on the machine disturbs that little, while it ruins what is measured in real time.
    """
    batcher = StreamBatcher(engine, card.frontend, step, most)
    callers = create_all(batcher, sounds, FULL)
    began, done, spent = time.process_time(), 0, 0.0
    while done < FLAT_OUT / PACE and spent < FLAT_OUT:
        for caller in callers:
            caller.push()
        decoded(batcher, callers)
        done, spent = done + 1, time.process_time() - began
    return FULL * done * PACE / spent


def memory(engine: Engine, card: ModelCard, sounds: Sequence[Samples], most: int | None) -> float | None:
    """Bytes by which the process grows for a stream, besides weights and working memory; None: the kernel does not say.

    Its state, samples and objects, in the middle of a call; freed memory is given back to the system before.
    """
    batcher = StreamBatcher(engine, card.frontend, most=most)
    kept = create_all(batcher, sounds, batcher.most)  # what a full call needs
    _trim()
    before = resident()
    kept += create_all(batcher, sounds, COUNTED)
    for caller in kept:
        caller.push()
        caller.push(round(caller.stream.framer.interval * card.frontend.rate))
    decoded(batcher, kept)
    _trim()
    after = resident()
    return None if before is None or after is None else 1e6 * (after - before) / COUNTED


def _trim() -> None:
    """As the C library of GNU does it; others keep what was freed, and their figures are too small or too large."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _event(score: Score, caller: Caller, number: int, streams: int) -> int:
    """The chunk that completed a score."""
    samples = round(score.time * caller.stream.framer.frontend.rate) - caller.lead
    return (-(-samples // caller.chunk) - 1) * streams + number
