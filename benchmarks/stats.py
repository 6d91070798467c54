"""Timing in turns, and the bootstrap intervals of ratios and differences.

    float_times, u8_times = measure([Case("float", run), Case("u8", other)], seconds=3.0, runs=10)
    low, middle, high = ratio(float_times.medians, u8_times.medians, paired=True)

Cases take turns, so that a noisy machine disturbs all alike; the first run of a slice, in parentheses, is not counted,
because it meets the caches of others:

    warm-up   float float ... | u8 u8 ...        round 1   (float) float float ... | (u8) u8 u8 ...        round 2   ...
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, fmean, median, pstdev

import numpy as np
from numpy.typing import NDArray

SECONDS, RUNS = 3.0, 10  # of counted runs of every case at least, as trtexec's --duration
ROUNDS = 20  # that the seconds are spread over
WARM_UP = 0.2  # s, as trtexec's --warmUp
CONFIDENCE = 0.95
RESAMPLES = 5_000
BLOCK = 3  # neighbouring rounds that are drawn together: rounds of a run that drifts are alike

Interval = tuple[float, float, float]  # low, estimate, high


@dataclass(frozen=True)
class Case:
    """Something that is timed."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Times:
    """All counted runs of a case, in seconds."""

    rounds: tuple[tuple[float, ...], ...]
    cpu: tuple[float, ...] = ()  # processor time of a run, round by round; other work disturbs it less

    @cached_property
    def sorted(self) -> list[float]:
        return sorted(run for turn in self.rounds for run in turn)

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """Of the rounds."""
        return tuple(median(turn) for turn in self.rounds)

    @property
    def median(self) -> float:
        return median(self.sorted)

    @property
    def mean(self) -> float:
        return fmean(self.sorted)

    @property
    def variation(self) -> float:
        """Standard deviation over mean."""
        return pstdev(self.sorted) / self.mean

    def percentile(self, percent: int) -> float:
        """By trtexec's rule: of n sorted runs the one at max(n - 1 - int((1 - percent / 100) n), 0)."""
        count = len(self.sorted)
        return self.sorted[max(count - 1 - (100 - percent) * count // 100, 0)]


def measure(
    cases: Sequence[Case], seconds: float = SECONDS, runs: int = RUNS, rounds: int = ROUNDS, warm_up: float = WARM_UP
) -> list[Times]:
    """Run all cases in turns until each has its seconds and its runs; the order changes from round to round."""
    found: list[list[tuple[float, ...]]] = [[] for _ in cases]
    cpu: list[list[float]] = [[] for _ in cases]
    turn = 0
    with no_garbage_collection():
        for case in cases:
            run_for(case.run, warm_up)
        while waiting := {i for i in range(len(cases)) if turn < rounds or sum(map(len, found[i])) < runs}:
            for place in filter(waiting.__contains__, order(len(cases), turn)):
                cases[place].run()
                before = time.process_time()
                times = run_for(cases[place].run, seconds / rounds)
                cpu[place].append((time.process_time() - before) / len(times))
                found[place].append(tuple(times))
            turn += 1
    return [Times(tuple(turns), tuple(spent)) for turns, spent in zip(found, cpu, strict=True)]


def order(count: int, turn: int) -> list[int]:
    """Forwards and backwards, then rotated by one: no case always follows the same other."""
    places = [(place + turn // 2) % count for place in range(count)]
    return places[::-1] if turn % 2 else places


def run_for(run: Callable[[], object], seconds: float) -> list[float]:
    """Run until the time is over, at least once; the seconds of each run."""
    times, spent = list[float](), 0.0
    while not times or spent < seconds:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
        spent += times[-1]
    return times


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the block and not within it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# ---- intervals


def ratio(a: Sequence[float], b: Sequence[float], paired: bool = False, confidence: float = CONFIDENCE) -> Interval:
    """B over A, of the medians of their rounds; `paired`: rounds of one run, taken in turns, compared pair by pair.

    Too few rounds for this confidence give 0 and infinity as the ends.
    """
    rng, count = np.random.default_rng(0), min(len(a), len(b))
    orders = 2**count if paired else math.comb(len(a) + len(b), len(a))
    parts = [np.log(b[:count]) - np.log(a[:count])] if paired else [np.log(b), -np.log(a)]
    middle = float(sum(np.median(part) for part in parts))
    if orders * (1 - confidence) < 2:
        return 0.0, math.exp(middle), math.inf
    tail = 50 * (1 - confidence)
    low, high = np.percentile(sum(_block_medians(part, rng) for part in parts), [tail, 100 - tail])
    return math.exp(min(low, middle)), math.exp(middle), math.exp(max(high, middle))


def _block_medians(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Medians of resamples by a moving-block bootstrap (Künsch, 1989), (RESAMPLES,)."""
    count, block = len(values), min(BLOCK, max(1, len(values) // 3))
    starts = rng.integers(count - block + 1, size=(RESAMPLES, -(-count // block)))
    places = (starts[..., None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count]
    medians: NDArray[np.float64] = np.median(values[places], axis=1)
    return medians


def difference(a: Interval, b: Interval, confidence: float = CONFIDENCE) -> Interval:
    """B minus A of two independent rates with 95 % intervals: Newcombe's hybrid of both, at another confidence."""
    middle = b[1] - a[1]
    factor = NormalDist().inv_cdf((1 + confidence) / 2) / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    down, up = math.hypot(b[1] - b[0], a[2] - a[1]), math.hypot(b[2] - b[1], a[1] - a[0])
    return middle - factor * down, middle, middle + factor * up
