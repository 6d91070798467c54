"""Summary of one source: score, verdict, segments, shares of states, dropped samples, and cost.

    builder = SummaryBuilder(info, tracker)
    builder.count(verdict, begin, warming, seconds, latency)
    print(builder.summary(seconds, voiced).line())

Running sums only: memory does not grow with the length of a stream.

A state is `borderline` if it would be another with every log-likelihood ratio LLR_MARGIN higher or lower, or with
VOICED_MARGIN more or less voice. Another gain, rounding or resampler may do that; the state itself stays.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.audio.quality import DISABLING, MISSING_BAND
from runtime.segments import Segment, Segments
from runtime.sinks import StreamInfo
from runtime.support.measure import Percentiles, resident, since_process_start
from runtime.verdict import CLAIM, IMPRESSION, WINDOW_VOICE, State, Verdict, VerdictTracker

SHOWN = 4  # segments in the one-line summary
SHOWN_FLAGS = DISABLING | {"invalid", "truncated", "borderline"}  # in it; "lost" has its seconds, "zeros" are no voice
# Gains of -20 to +10 dB, as files of 16 bits, move about 95 % of clips by less, where they set no other flag: measured
# by python -m scripts.robustness (docs/experiments.md) on clips of dev that are not among those of its counts.
LLR_MARGIN = 0.4
VOICED_MARGIN = 0.1  # s
BORDERLINE = "borderline: the state is close to another; a small change of level or noise may change it"
WORSE: tuple[State, ...] = ("no-voice", "too-short", "warming-up", "bonafide", "unsure", "spoof")  # from left to right


@dataclass(frozen=True)
class Cost:
    """NaN where nothing was measured."""

    step_ms: tuple[float, float, float]  # p50, p95, p99 of one score: level, features, network
    latency_ms: tuple[float, float, float]  # p50, p95, p99 from a sample's arrival to its verdict; live sources
    core: float  # share of one core that the process took since it opened the source
    resident_mb: float | None
    first_s: float | None  # from the process's start to its first score


@dataclass(frozen=True)
class Summary:
    """One source as a whole; score, llr and p_spoof are None where nothing was judged."""

    source: str
    seconds: float  # of sound, without dropped samples
    voiced: float  # s of voice
    verdicts: int
    state: State  # of the whole: no-voice, too-short, bonafide, spoof or unsure
    score: float | None  # of the first full window that was judged: the score of offline evaluation
    threshold: float  # the card's, for that score
    llr: float | None  # mean over all judged windows; over those of less than a window only where there are no others
    p_spoof: float | None
    segments: tuple[Segment, ...]  # passages judged as spoof
    states: dict[str, float]  # shares of verdicts
    flags: dict[str, float]  # share of verdicts with each
    lost: float  # s
    gaps: int
    cost: Cost
    channel: str | None = None  # left or right, where channels were judged one by one

    def line(self) -> str:
        """Format for a person, in one line."""
        name = self.source if self.channel is None else f"{self.source} ({self.channel})"
        voiced = f"{self.voiced:.1f} of {self.seconds:.1f} s voiced"
        lost = f", {self.lost:.1f} s lost in {plural(self.gaps, 'gap')}" if self.gaps else ""
        lost += "".join(f", {flag}" for flag in self.flags if flag in SHOWN_FLAGS)
        if self.llr is None or self.p_spoof is None:
            return f"{name}: {self.state}, {voiced}{lost}"
        numbers = f"P(spoof) {self.p_spoof:.2f}, LLR {self.llr:+.2f}"
        if self.state == "too-short":
            return f"{name}: too-short, {voiced}; first impression {numbers}{lost}"
        found = "".join(f"; {segment}" for segment in self.segments[:SHOWN])
        more = f" and {len(self.segments) - SHOWN} more" if len(self.segments) > SHOWN else ""
        part = " in part" if self.state == "spoof" and self.p_spoof < 0.5 else ""
        return f"{name}: {self.state}{part}, {numbers}, {voiced}{found}{more}{lost}"

    def costs(self) -> str:
        """Time and memory, in one line."""
        p50, p95, p99 = self.cost.step_ms
        parts = [f"per score {p50:.2f} / {p95:.2f} / {p99:.2f} ms (p50 / p95 / p99)"]
        if not math.isnan(self.cost.latency_ms[0]):
            parts.append("sample to verdict {:.1f} / {:.1f} / {:.1f} ms".format(*self.cost.latency_ms))
        parts.append(f"{100 * self.cost.core:.1f} % of a core")
        if self.cost.resident_mb is not None:
            parts.append(f"{self.cost.resident_mb:.0f} MB")
        if self.cost.first_s is not None:
            parts.append(f"first score after {self.cost.first_s:.2f} s")
        return ", ".join(parts)


def worst(summaries: Iterable[Summary]) -> Summary:
    """Return the summary that counts for a recording whose channels were judged one by one."""
    return max(summaries, key=lambda one: (WORSE.index(one.state), one.p_spoof or 0.0))


class SummaryBuilder:
    """Counts while a stream runs."""

    def __init__(self, info: StreamInfo, tracker: VerdictTracker) -> None:
        self._info, self._tracker = info, tracker
        self._states: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._disabled = self._band_missing = 0  # judged windows with a flag that disables a claim, with one of a band
        self._sums = {True: [0.0, 0], False: [0.0, 0]}  # LLR and windows, by whether the window was not full
        self._segments = {  # by what is added to every LLR
            shift: Segments(info.window, tracker.spoof, info.interval) for shift in (0.0, LLR_MARGIN, -LLR_MARGIN)
        }
        self._first_window: float | None = None
        self._warming = True  # whether that window was not full
        self._first: float | None = None  # s from the process's start to the first score
        self._steps, self._latencies = Percentiles(), Percentiles()
        self._began, self._cpu = time.monotonic(), time.process_time()
        self.lost, self.gaps = 0.0, 0
        self._marks: dict[str, float] = {}  # flags of the whole source

    def count(self, verdict: Verdict, begin: float, warming: bool, step: float, latency: float | None) -> None:
        """Add one verdict. `begin`: s, where its window begins; `step`: s of computing; `latency`: s."""
        if self._first is None:
            self._first = since_process_start()
        self._states[verdict.state] += 1
        self._flags.update(verdict.quality.flags)
        for shift, segments in self._segments.items():
            shifted = None if verdict.smoothed is None else self._tracker.p_spoof(verdict.smoothed + shift)
            segments.add(verdict.time, shifted, begin)
        if verdict.llr is not None:
            total = self._sums[warming]
            total[0] += verdict.llr
            total[1] += 1
            self._disabled += bool(DISABLING & set(verdict.quality.flags))
            self._band_missing += bool(MISSING_BAND & set(verdict.quality.flags))
            if self._first_window is None or self._warming:
                self._first_window, self._warming = verdict.score, warming
        self._steps.add(step)
        if latency is not None:
            self._latencies.add(latency)

    def mark(self, flag: str) -> None:
        """Set a flag for the whole source."""
        self._marks[flag] = 1.0

    def skip(self, lost: float) -> None:
        """Count a gap of so many seconds."""
        self.lost += lost
        self.gaps += 1

    def summary(self, seconds: float, voiced: float) -> Summary:
        """Sum up `seconds` of sound with `voiced` seconds of voice."""
        count = sum(self._states.values())
        total, number = self._sums[False] if self._sums[False][1] else self._sums[True]
        llr = total / number if number and voiced >= IMPRESSION else None
        passages = {shift: one.finish(seconds + self.lost) for shift, one in self._segments.items()}
        state = self._overall(llr, voiced, passages[0.0])
        others = [self._overall(llr + shift, voiced, found) for shift, found in passages.items() if llr is not None]
        others += [self._overall(llr, voiced + extra, passages[0.0]) for extra in (VOICED_MARGIN, -VOICED_MARGIN)]
        if any(other != state for other in others):
            self.mark("borderline")
        return Summary(
            source=self._info.source,
            seconds=seconds,
            voiced=round(voiced, 3),
            verdicts=count,
            state=state,
            score=self._first_window,
            threshold=self._info.threshold,
            llr=llr,
            p_spoof=None if llr is None else self._tracker.p_spoof(llr),
            segments=passages[0.0] if voiced >= CLAIM else (),
            states={state: number / count for state, number in sorted(self._states.items())},
            flags={flag: number / count for flag, number in sorted(self._flags.items())} | self._marks,
            lost=self.lost,
            gaps=self.gaps,
            cost=self._cost(),
            channel=self._info.channel,
        )

    def _overall(self, llr: float | None, voiced: float, segments: tuple[Segment, ...]) -> State:
        """The state of the whole. It is spoof if the mean is, or if passages of CLAIM seconds together are."""
        if llr is None:
            return "no-voice" if voiced < WINDOW_VOICE else "too-short"
        if voiced < CLAIM:
            return "too-short"
        judged = self._sums[False][1] + self._sums[True][1]
        # A missing band is found after 2 s of voice, so that the first of two windows may lack its flag.
        if 2 * self._disabled > judged or 2 * self._band_missing >= judged:
            return "unsure"
        p_spoof = self._tracker.p_spoof(llr)
        if p_spoof >= self._tracker.spoof or sum(segment.end - segment.start for segment in segments) >= CLAIM:
            return "spoof"
        return "bonafide" if p_spoof <= self._tracker.bonafide and not segments else "unsure"

    def _cost(self) -> Cost:
        def milliseconds(times: Percentiles) -> tuple[float, float, float]:
            p50, p95, p99 = times.at(0.5, 0.95, 0.99)
            return 1000 * p50, 1000 * p95, 1000 * p99

        elapsed = max(time.monotonic() - self._began, 1e-9)
        core = (time.process_time() - self._cpu) / elapsed
        return Cost(milliseconds(self._steps), milliseconds(self._latencies), core, resident(), self._first)


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: 1 gap, 2 gaps."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
