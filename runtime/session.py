"""One source, from its first block to its summary.

    session = Session(model, sinks, VerdictOptions())
    with Stop() as stop:
        summary = session.run(source, stop)

    source -> block -> framer -> engine -> score -> verdict -> sinks
                └────> voice, level, flags ────────────┘

Voice, level and flags are those of the score's own last sample, so that verdicts do not depend on the size of blocks. A
windowed model does not run on a window without voice; a streaming model runs on, and its state restarts there.
Several sessions may share a batcher: then `accept` takes the blocks, and `report` the scores (runtime.multi_source).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime.audio.framer import Score
from runtime.audio.quality import WHOLE, QualityMonitor
from runtime.audio.voice_activity import VoiceActivity
from runtime.engines.model_loader import LoadedModel
from runtime.multi_stream import StreamBatcher
from runtime.sinks import Sink, StreamInfo
from runtime.sources import Block, Source, SourceInfo
from runtime.summary import Summary, SummaryBuilder
from runtime.support.shutdown import Stop
from runtime.verdict import SMOOTHING, WINDOW_VOICE, VerdictTracker

UNCOVERED = 0.5  # s of voice after the last scored window from which on a file gets one more, with `cover`


@dataclass(frozen=True)
class VerdictOptions:
    """Options that turn scores into verdicts; `python -m runtime.stream --help` describes them."""

    step: int | None = None
    prior: float = 0.5
    smoothing: float = SMOOTHING
    sure: float | None = None  # None: the card's operating point
    cover: bool = False  # as few windows as cover the voice of a file: full ones, and one that ends with the sound


class Session:
    """Runs any number of sources, one after the other, each from a clean state."""

    def __init__(
        self, model: LoadedModel, sinks: Sequence[Sink], options: VerdictOptions, batcher: StreamBatcher | None = None
    ) -> None:
        """`batcher`: one that several sessions share; by default one of its own. Raises for invalid options."""
        self._model, self._sinks, self._options = model, sinks, options
        frontend = model.card.frontend
        if batcher is None:
            batcher = StreamBatcher(model.engine, frontend, options.step, 1, options.cover)
        self._batcher = batcher
        self._rate = frontend.rate
        self._window = round(frontend.seconds * self._rate)  # samples
        self._tracker = self._new_tracker()

    def _new_tracker(self) -> VerdictTracker:
        options, score_map = self._options, self._model.card.score
        return VerdictTracker(score_map, self._batcher.interval, options.prior, options.smoothing, options.sure)

    def run(self, source: Source, stop: Stop) -> Summary:
        """Score the source to its end or to the request to stop; every sink gets the summary."""
        self.begin(source)
        try:
            for block in source:
                self.hear(block)
                if stop.requested:
                    return self.end()
            return self.finish()
        finally:
            self._batcher.remove(self.stream)

    # ---- one source

    def begin(self, source: SourceInfo) -> None:
        """Start from a clean state."""
        self.stream = self._batcher.create_stream(self._has_voice)
        self._framer, self._live = self.stream.framer, source.live
        self._quality, self._tracker = QualityMonitor(self._model.card.frontend), self._new_tracker()
        self._voice = VoiceActivity()
        self._reset_at = 0  # no window reaches back beyond it
        self._block = Block(np.empty(0, np.float32), 0.0)
        self._start = self._measured = 0  # of the block; samples before it have been measured
        self._arrived: float | None = None  # when the block's newest sample arrived, from a live source
        self._lost, self._cost = 0, 0.0  # samples; s of measuring since the last score
        self._covered = 0  # end of the last window that was scored
        info = self._info(source)
        self._summary = SummaryBuilder(info, self._tracker)
        for sink in self._sinks:
            sink.begin(info)

    def _info(self, source: SourceInfo) -> StreamInfo:
        model, frontend, score_map = self._model, self._model.card.frontend, self._model.card.score
        return StreamInfo(
            source=source.name,
            channel=getattr(source, "channel", None),
            live=source.live,
            model=model.name,
            engine=model.backend,
            precision=model.engine.precision,
            calibrated=score_map.fitted_on is not None,
            interval=self._batcher.interval,
            window=frontend.seconds,
            prior=self._options.prior,
            band=frontend.passband,
            rate=frontend.rate,
            threshold=score_map.threshold,
            spoof_from=self._tracker.spoof,
            bonafide_to=self._tracker.bonafide,
        )

    def hear(self, block: Block) -> None:
        """Score a block and report the verdicts that it completes."""
        self.accept(block)
        while self.stream.ready:
            self._batcher.decode_streams([self.stream])
            self.report()

    def _has_voice(self, end: int) -> bool:
        """True if the window that ends at that position holds enough voice to be scored."""
        self._measure(end)
        return self._voiced(end) >= WINDOW_VOICE

    def _voiced(self, end: int) -> float:
        return self._voice.voiced(max(self._reset_at, end - self._window), end)

    def accept(self, block: Block) -> None:
        """Take a block's gap, flags and note, show it to the sinks, and buffer its samples."""
        self._measure(self._framer.position)
        if block.lost > 0:
            self._skip(block.lost)
        for flag in WHOLE & set(block.flags):
            self._summary.mark(flag)
        for sink in self._sinks:
            if block.note:
                sink.note(block.note)
            sink.sound(block.samples)
        found = {"lost": block.lost > 0, "invalid": block.invalid > 0}
        self._quality.mark((*(flag for flag, present in found.items() if present), *block.flags), len(block.samples))
        self._block, self._start, self._measured = block, self._framer.position, self._framer.position
        self._arrived = block.arrived if self._live else None
        self.stream.accept_waveform(block.samples)

    def report(self) -> None:
        """Show the verdicts of new scores to the sinks; raise the stream's error after its last score."""
        if lost := self.stream.lost():  # with the state, of sound that was accepted before
            self._measure(self._framer.position)
            self._lost += round(lost * self._rate)
            self._report_gap(lost, True)
        for score in self._batcher.get_result(self.stream):
            self._report_score(score)

    def _report_score(self, score: Score) -> None:
        end = round(score.time * self._rate)
        self._measure(end)
        voiced = self._voiced(end)
        if voiced < WINDOW_VOICE:
            self._framer.restart_state()
        else:
            self._covered = end
        verdict = self._tracker.update(score, self._quality.report(voiced >= WINDOW_VOICE), voiced, self._voice.total)
        begin = max(self._reset_at, end - self._window) / self._rate
        latency = None if self._arrived is None else max(0.0, time.monotonic() - self._arrived)
        self._summary.count(verdict, begin, score.warming, self._cost + score.cost, latency)
        self._cost = 0.0
        for sink in self._sinks:
            sink.verdict(verdict, latency)

    def finish(self) -> Summary:
        """End a complete source: report its last scores, then its summary."""
        self.complete()
        return self.end()

    def complete(self) -> None:
        """Report the last scores of a complete source."""
        self._measure(self._framer.position)
        self._arrived = None
        uncovered = self._voice.voiced(self._covered, self._framer.position)
        self._batcher.finish(self.stream, newest=self._options.cover and uncovered > UNCOVERED)
        self.report()

    def end(self) -> Summary:
        """Give every sink the summary of what was scored."""
        self._batcher.remove(self.stream)
        summary = self._summary.summary((self._framer.position - self._lost) / self._rate, self._voice.total)
        for sink in self._sinks:
            sink.end(summary)
        return summary

    def _measure(self, until: int) -> None:
        """Measure voice, level and flags of the block's samples before the position `until`."""
        if until > self._measured:
            began = time.perf_counter()
            samples = self._block.samples[self._measured - self._start : until - self._start]
            self._quality.push(samples)
            self._voice.push(samples)
            self._measured = until
            self._cost += time.perf_counter() - began

    def _skip(self, lost: float) -> None:
        samples = round(lost * self._rate)
        self._lost += samples
        restarted = self._framer.skip(samples)
        self._voice.skip(samples)
        self._report_gap(lost, restarted)

    def _report_gap(self, lost: float, restarted: bool) -> None:
        if restarted:
            self._reset_at = self._framer.position
            self._tracker.reset(self._voice.total)
            self._quality.reset()
        self._summary.skip(lost)
        for sink in self._sinks:
            sink.gap(self._framer.position / self._rate, lost, restarted)
