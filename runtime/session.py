"""One source, from its first block to its summary: source -> scorer -> judge -> sinks.

    session = Session(engine, card, sinks, Settings())
    with Stop() as stop:
        summary = session.run(source, stop)

Blocks are cut where scores fall due, so that level, flags and verdicts are the same for every block size, as the
scores are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.card import ModelCard
from runtime.cascade import Depth, depth
from runtime.engines import Engine
from runtime.engines.cascade import CascadeEngine
from runtime.features import FrontEnd
from runtime.quality import QualityMonitor
from runtime.scorer import STEP, Score, StreamScorer
from runtime.sinks import Opening, Sink
from runtime.sources import Block, Source
from runtime.stopping import Stop
from runtime.summary import Summary, Tally
from runtime.verdict import SMOOTHING, SURE, Judge


@dataclass(frozen=True)
class Settings:
    """What verdicts are made with; runtime.stream says what each is for."""

    step: int = STEP
    prior: float = 0.5
    smoothing: float = SMOOTHING
    sure: float = SURE


class Session:
    """Runs any number of sources, one after the other, each from a clean state."""

    def __init__(self, engine: Engine, card: ModelCard, sinks: Sequence[Sink], settings: Settings, kind: str) -> None:
        """`kind` of engine, in words."""
        self._engine, self._card, self._sinks, self._settings, self._kind = engine, card, sinks, settings, kind
        self._new_state()  # what the settings cannot be is said here, before a source is opened

    def _new_state(self) -> None:
        settings = self._settings
        self._scorer = StreamScorer(self._engine, self._card.frontend, settings.step)
        self._quality = QualityMonitor(self._card.frontend)
        self._judge = Judge(self._card.score, self._scorer.interval, settings.prior, settings.smoothing, settings.sure)

    def opening(self, source: Source) -> Opening:
        frontend = self._card.frontend
        return Opening(
            source=source.name,
            live=source.live,
            model=self._card.name,
            engine=self._kind,
            precision=self._engine.precision,
            calibrated=self._card.score.fitted_on is not None,
            interval=self._scorer.interval,
            prior=self._settings.prior,
            band=band(frontend),
            rate=frontend.rate,
            threshold=self._card.score.threshold,
        )

    def run(self, source: Source, stop: Stop) -> Summary:
        """To the source's end or the request to stop; then every sink has had its summary."""
        self._new_state()
        opening = self.opening(source)
        self._tally = Tally(opening, self._judge, self._settings.sure)
        self._lost = 0  # samples
        self._forget_depth()
        self._spent = 0.0  # s of work since the last score
        for sink in self._sinks:
            sink.begin(opening)
        for block in source:
            self._take(block, source.live)
            if stop.requested:
                break
        if not stop.requested:
            self._report(self._scorer.finish(), None)
        seconds = (self._scorer.heard - self._lost) / self._card.frontend.rate
        summary = self._tally.summary(seconds, self._depth())
        for sink in self._sinks:
            sink.end(summary)
        return summary

    def _forget_depth(self) -> None:
        if isinstance(self._engine, CascadeEngine):
            self._engine.decided.clear()

    def _depth(self) -> Depth | None:
        """Of a cascade, how far this source's windows went."""
        return depth(self._engine.cascade, self._engine.decided) if isinstance(self._engine, CascadeEngine) else None

    def _take(self, block: Block, live: bool) -> None:
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
            until_due = self._scorer.until_due
            piece, samples = samples[:until_due], samples[until_due:]
            self._quality.push(piece)
            scores = self._scorer.push(piece)
            self._spent += time.perf_counter() - began
            self._report(scores, block.arrived if live else None)

    def _skip(self, lost: float) -> None:
        samples = round(lost * self._card.frontend.rate)
        self._lost += samples
        restarted = self._scorer.skip(samples)
        if restarted:
            self._judge.reset()
            self._quality.reset()
        self._tally.skip(lost)
        for sink in self._sinks:
            sink.gap(self._scorer.heard / self._card.frontend.rate, lost, restarted)

    def _report(self, scores: list[Score], arrived: float | None) -> None:
        for score in scores:
            verdict = self._judge.update(score, self._quality.report())
            latency = None if arrived is None else max(0.0, time.monotonic() - arrived)
            self._tally.count(verdict, score.warming, self._spent, latency)
            self._spent = 0.0
            for sink in self._sinks:
                sink.verdict(verdict, latency)


def band(frontend: FrontEnd) -> tuple[float, float]:
    """Hz that the front-end lets through."""
    seen = frontend.matrix.any(axis=0).nonzero()[0] * frontend.rate / frontend.window
    return float(seen[0]), float(seen[-1])
