"""One session of the runtime, watched: over a file as fast as it goes, and over a microphone in real time.

    speed, cost = from_file(chosen, samples)                 # times real time; runtime.summary.Cost
    run = in_real_time(chosen, samples, 20.0, 48_000)
    run.spoken_ms, run.lost

Two latencies of a verdict, because a microphone hands over 20 ms at a time and a resampler looks ahead: `spoken` counts
from the moment its newest sample was spoken, `arrived` from the moment that sample's block was handed over.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soundcard import SoundCard
from runtime.audio.features import RATE, Samples
from runtime.engines.model_loader import LoadedModel
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sinks.jsonl import JsonLines
from runtime.sources.file import FileSource
from runtime.sources.microphone import Microphone
from runtime.summary import Cost, Summary
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict


@dataclass(frozen=True)
class RealTime:
    """A run at the pace of speech."""

    spoken_ms: tuple[float, ...]  # of every verdict
    arrived_ms: tuple[float, ...]
    sent: float  # s of sound that the card delivered
    summary: Summary

    @property
    def lost(self) -> float:
        """s that the queue dropped because nobody came for them in time."""
        return self.summary.lost

    @property
    def unheard(self) -> float:
        """s that still waited in the queue, or in the resampler, when the sound was over."""
        return max(0.0, self.sent - self.summary.seconds - self.summary.lost)


class Stopwatch(Sink):
    """When each verdict was out; stands behind the sink that writes them."""

    def __init__(self, card: SoundCard) -> None:
        self._card = card
        self.spoken: list[float] = []  # ms
        self.arrived: list[float] = []

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        now = time.monotonic()
        self.spoken.append(1000 * (now - self._card.began - verdict.time))
        assert latency is not None, "a microphone is live"
        self.arrived.append(1000 * latency)


@contextmanager
def written_away() -> Iterator[Sink]:
    """The JSON lines of the real command, to nowhere: writing them is part of what a verdict costs."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        yield JsonLines(nowhere)


def from_file(chosen: LoadedModel, samples: Samples, step: int | None = None) -> tuple[float, Cost]:
    """Seconds of sound per second, decoding included, and what a step cost."""
    import soundfile

    with tempfile.TemporaryDirectory() as folder, Stop() as stop, written_away() as lines:
        path = Path(folder) / "sound.flac"
        soundfile.write(path, samples, RATE)
        session = Session(chosen.engine, chosen.card, [lines], VerdictOptions(step=step), chosen.backend)
        began = time.perf_counter()
        with closing(FileSource(path, chosen.card.frontend.rate, stop)) as source:
            summary = session.run(source, stop)
        wall = time.perf_counter() - began
        if stop.requested:
            raise KeyboardInterrupt
    return summary.seconds / wall, summary.cost


def in_real_time(
    chosen: LoadedModel, samples: Samples, seconds: float, rate: int = 48_000, step: int | None = None
) -> RealTime:
    """The real microphone on a made sound card of that rate."""
    import soxr

    heard = samples[: round(seconds * RATE)]
    spoken = heard if rate == RATE else soxr.resample(heard, RATE, rate, quality="HQ")
    with Stop() as stop, written_away() as lines:
        card = SoundCard(spoken, rate, stop)
        watch = Stopwatch(card)
        session = Session(chosen.engine, chosen.card, [lines, watch], VerdictOptions(step=step), chosen.backend)
        with closing(Microphone(None, chosen.card.frontend.rate, stop, card)) as source:
            summary = session.run(source, stop)
        if not card.finished:
            raise KeyboardInterrupt
    return RealTime(tuple(watch.spoken), tuple(watch.arrived), card.delivered / rate, summary)
