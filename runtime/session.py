"""One source, from its first block to its summary: source -> pool -> judge -> sinks.

    session = Session(engine, card, sinks, VerdictOptions(), "ONNX Runtime")
    with Stop() as stop:
        summary = session.run(source, stop)

Blocks are cut where scores fall due, so that level, flags and verdicts are the same for every block size, as the
scores are. Several sessions may share a pool (runtime.multi_source): then `begin`, `take` and `end` are called in the place
of `run`, and whoever calls them runs the pool.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.audio.framer import Score
from runtime.audio.quality import QualityMonitor
from runtime.card.model_card import ModelCard
from runtime.engines import Engine
from runtime.multi_stream import StreamBatcher
from runtime.sinks import Sink, StreamInfo
from runtime.sources import Block, Source, SourceInfo
from runtime.summary import Summary, SummaryBuilder
from runtime.support.shutdown import Stop
from runtime.verdict import SMOOTHING, SURE, VerdictTracker


@dataclass(frozen=True)
class VerdictOptions:
    """What verdicts are made with; runtime.stream says what each is for."""

    step: int | None = None
    prior: float = 0.5
    smoothing: float = SMOOTHING
    sure: float = SURE


class Session:
    """Runs any number of sources, one after the other, each from a clean state."""

    def __init__(
        self,
        engine: Engine,
        card: ModelCard,
        sinks: Sequence[Sink],
        settings: VerdictOptions,
        kind: str,
        pool: StreamBatcher | None = None,
    ) -> None:
        """`kind` of engine, in words. `pool`: one that is shared, of the same engine and step."""
        self._engine, self._card, self._sinks, self._settings, self._kind = engine, card, sinks, settings, kind
        self._pool = StreamBatcher(engine, card.frontend, settings.step) if pool is None else pool
        self._new_judge()  # what the settings cannot be is said here, before a source is opened

    def _new_judge(self) -> None:
        settings = self._settings
        self._quality = QualityMonitor(self._card.frontend)
        self._judge = VerdictTracker(
            self._card.score, self._pool.interval, settings.prior, settings.smoothing, settings.sure
        )

    def opening(self, source: SourceInfo) -> StreamInfo:
        frontend = self._card.frontend
        return StreamInfo(
            source=source.name,
            live=source.live,
            model=self._card.name,
            engine=self._kind,
            precision=self._engine.precision,
            calibrated=self._card.score.fitted_on is not None,
            interval=self._pool.interval,
            prior=self._settings.prior,
            band=frontend.passband,
            rate=frontend.rate,
            threshold=self._card.score.threshold,
        )

    def run(self, source: Source, stop: Stop) -> Summary:
        """To the source's end or the request to stop; then every sink has had its summary."""
        self.begin(source)
        try:
            for block in source:
                self.hear(block)
                if stop.requested:
                    break
            return self.end(not stop.requested)
        finally:
            self.abandon()

    def begin(self, source: SourceInfo) -> None:
        """From a clean state; sinks learn what is going to come."""
        self._new_judge()
        self._stream = self._pool.join()
        opening, self._live = self.opening(source), source.live
        self._tally = SummaryBuilder(opening, self._judge, self._settings.sure)
        self._lost = 0  # samples
        self._spent = 0.0  # s of work since the last score, besides the stream's own
        for sink in self._sinks:
            sink.begin(opening)

    def hear(self, block: Block) -> None:
        """A block, and whatever it makes due."""
        for _ in self.take(block):
            self._pool.run()

    def take(self, block: Block) -> Iterator[None]:
        """A block, piece by piece; yields where the pool is to run before it goes on."""
        if block.lost > 0:
            self._skip(block.lost)
        if block.note:
            for sink in self._sinks:
                sink.note(block.note)
        self._quality.mark(block.lost > 0, block.invalid > 0)
        for sink in self._sinks:
            sink.sound(block.samples)
        samples = block.samples
        while len(samples):
            began = time.perf_counter()
            until_due = self._stream.until_due
            piece, samples = samples[:until_due], samples[until_due:]
            self._quality.push(piece)
            self._stream.push(piece)
            self._spent += time.perf_counter() - began
            if len(piece) == until_due:
                yield
                self._report(block.arrived if self._live else None)

    def end(self, complete: bool = True) -> Summary:
        """The sound is over, or was stopped before: every sink gets the summary."""
        if complete:
            self._stream.finish()
            self._report(None)
        seconds = (self._stream.heard - self._lost) / self._card.frontend.rate
        summary = self._tally.summary(seconds)
        for sink in self._sinks:
            sink.end(summary)
        return summary

    def abandon(self) -> None:
        """Give back the stream's place; after `end`, or where something went wrong."""
        self._stream.leave()

    def _skip(self, lost: float) -> None:
        samples = round(lost * self._card.frontend.rate)
        self._lost += samples
        restarted = self._stream.skip(samples)
        if restarted:
            self._judge.reset()
            self._quality.reset()
        self._tally.skip(lost)
        for sink in self._sinks:
            sink.gap(self._stream.heard / self._card.frontend.rate, lost, restarted)

    def _report(self, arrived: float | None) -> None:
        if self._stream.fault:
            raise self._stream.fault
        for score in self._stream.scores():
            self._say(score, arrived)

    def _say(self, score: Score, arrived: float | None) -> None:
        verdict = self._judge.update(score, self._quality.report())
        latency = None if arrived is None else max(0.0, time.monotonic() - arrived)
        self._tally.count(verdict, score.warming, self._spent + self._stream.spent, latency)
        self._spent = self._stream.spent = 0.0
        for sink in self._sinks:
            sink.verdict(verdict, latency)
