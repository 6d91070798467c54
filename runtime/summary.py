"""Summary of a stream: score and verdict of the whole, shares of states, lost sound, and cost.

    builder = SummaryBuilder(info, tracker)
    builder.count(verdict, warming, step, latency)
    print(builder.summary(seconds).line())

Running sums alone, so that memory does not grow with the stream.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass

from runtime.sinks import StreamInfo
from runtime.support.measure import Percentiles, resident, since_process_start
from runtime.verdict import SURE, State, Verdict, VerdictTracker


@dataclass(frozen=True)
class Cost:
    """Computation and delay; NaN where nothing was measured."""

    step_ms: tuple[float, float, float]  # p50, p95, p99 of one score: level, features, model
    latency_ms: tuple[float, float, float]  # p50, p95, p99 from a sample's arrival to its verdict; live sources
    core: float  # share of one core that the process used since it opened the source
    resident_mb: float | None
    first_s: float | None  # from the process's start to its first score


@dataclass(frozen=True)
class Summary:
    """Summary of one source."""

    source: str
    seconds: float  # of sound, without lost sound
    verdicts: int
    state: State  # of the whole: bonafide, spoof, unsure; silence or warming-up where there was nothing else
    score: float | None  # of its first 600 frames: that of offline evaluation
    threshold: float  # the card's, for that score
    llr: float | None  # mean over all verdicts but silence and, where others exist, warming-up
    p_spoof: float | None
    states: dict[str, float]  # shares
    flags: dict[str, float]  # share of verdicts with each
    lost: float  # s
    gaps: int
    cost: Cost

    def line(self) -> str:
        """Format the summary as one line."""
        if self.llr is None or self.p_spoof is None:
            return f"{self.source}: {self.state}, {self.seconds:.1f} s, nothing to judge"
        lost = f", {self.lost:.1f} s lost in {self.gaps} gaps" if self.gaps else ""
        offline = "" if self.score is None else f", first window {self.score:+.3f}, threshold {self.threshold:+.3f}"
        return (
            f"{self.source}: {self.state}, P(spoof) {self.p_spoof:.2f}, LLR {self.llr:+.2f} over "
            f"{self.seconds:.1f} s ({self.verdicts} verdicts{offline}{lost})"
        )

    def costs(self) -> str:
        """Format the cost as one line."""
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


class SummaryBuilder:
    """Collects statistics while a stream runs."""

    def __init__(self, info: StreamInfo, tracker: VerdictTracker, sure: float = SURE) -> None:
        self._info, self._tracker, self._sure = info, tracker, sure
        self._states: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._sums = {"warming-up": [0.0, 0], "full": [0.0, 0]}
        self._first_window: float | None = None
        self._warming = True  # whether that was less than a full window
        self._first: float | None = None  # s from the process's start to the first score
        self._steps, self._latencies = Percentiles(), Percentiles()
        self._began, self._cpu = time.monotonic(), time.process_time()
        self.lost, self.gaps = 0.0, 0

    def count(self, verdict: Verdict, warming: bool, step: float, latency: float | None) -> None:
        """Count a verdict; `step`: s of computation; `latency`: s since its newest sample arrived."""
        if self._first is None:
            self._first = since_process_start()
        self._states[verdict.state] += 1
        self._flags.update(verdict.quality.flags)
        if verdict.state != "silence":
            total = self._sums["warming-up" if warming else "full"]
            total[0] += verdict.llr
            total[1] += 1
        if self._first_window is None or self._warming:
            self._first_window, self._warming = verdict.score, warming
        self._steps.add(step)
        if latency is not None:
            self._latencies.add(latency)

    def skip(self, lost: float) -> None:
        self.lost += lost
        self.gaps += 1

    def summary(self, seconds: float) -> Summary:
        count = sum(self._states.values())
        total, number = self._sums["full"] if self._sums["full"][1] else self._sums["warming-up"]
        llr = total / number if number else None
        p_spoof = None if llr is None else self._tracker.p_spoof(llr)
        return Summary(
            source=self._info.source,
            seconds=seconds,
            verdicts=count,
            state=self._overall(p_spoof, count),
            score=self._first_window,
            threshold=self._info.threshold,
            llr=llr,
            p_spoof=p_spoof,
            states={state: number / count for state, number in sorted(self._states.items())},
            flags={flag: number / count for flag, number in sorted(self._flags.items())},
            lost=self.lost,
            gaps=self.gaps,
            cost=self._cost(),
        )

    def _overall(self, p_spoof: float | None, count: int) -> State:
        if p_spoof is None:
            return "silence" if count else "warming-up"
        blind = self._flags["no-low-band"] + self._flags["no-high-band"]
        if 2 * blind > count:
            return "unsure"
        return "spoof" if p_spoof >= self._sure else "bonafide" if p_spoof <= 1 - self._sure else "unsure"

    def _cost(self) -> Cost:
        def milliseconds(times: Percentiles) -> tuple[float, float, float]:
            p50, p95, p99 = times.at(0.5, 0.95, 0.99)
            return 1000 * p50, 1000 * p95, 1000 * p99

        elapsed = max(time.monotonic() - self._began, 1e-9)
        core = (time.process_time() - self._cpu) / elapsed
        return Cost(milliseconds(self._steps), milliseconds(self._latencies), core, resident(), self._first)
