"""The clock of the benchmarks: cases take turns, so that a noisy machine disturbs all alike, and every run is kept.

cases = [Case("float", lambda: engine(window)), Case("u8", lambda: twin(window))]
times = measure(cases, seconds=3.0, runs=10)
times[0].median, times[0].percentile(99), times[0].medians      # s; the last are those of the rounds

warm-up   float float float ... | u8 u8 u8 ...                     200 ms each, not counted
round 1   (float) float float float ... | (u8) u8 u8 u8 ...         a slice of time each; the first run of a slice
round 2   (u8) u8 u8 ... | (float) float float ...                  finds foreign caches, and is not counted
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, median, pstdev

SECONDS = 3.0  # of counted runs for every case, as trtexec's --duration
RUNS = 10  # and no fewer than these
ROUNDS = 20  # that the seconds are spread over
WARM_UP = 0.2  # s, as trtexec's --warmUp
TALK_EVERY = 15.0  # s between sentences about how far it is; a live bar would take time from what is timed


@dataclass(frozen=True)
class Case:
    """Something that is timed."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = field(default=lambda: None)  # before each slice: settings that are the process's


@dataclass(frozen=True)
class Times:
    """All counted runs of a case, in seconds."""

    rounds: tuple[tuple[float, ...], ...]
    cpu: tuple[float, ...] = ()  # of a run, round by round: the processor's time, which other work disturbs far less

    @cached_property
    def sorted(self) -> list[float]:
        return sorted(run for turn in self.rounds for run in turn)

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """One for every round: what they differ by is the run's noise."""
        return tuple(median(turn) for turn in self.rounds)

    @property
    def count(self) -> int:
        return len(self.sorted)

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
        return self.sorted[percentile_index(len(self.sorted), percent)]


def percentile_index(count: int, percent: int) -> int:
    """trtexec's rule in whole numbers: (1 - 0.9) * 10 is 0.99... in binary, and 1 here."""
    return max(count - 1 - (100 - percent) * count // 100, 0)


def measure(
    cases: Sequence[Case],
    seconds: float = SECONDS,
    runs: int = RUNS,
    rounds: int = ROUNDS,
    warm_up: float = WARM_UP,
    say: Callable[[str], object] = lambda sentence: None,
) -> list[Times]:
    """Run all cases in turns until each has its seconds and its runs; the order changes from round to round."""
    kept: list[list[tuple[float, ...]]] = [[] for _ in cases]
    cpu: list[list[float]] = [[] for _ in cases]
    done = [0] * len(cases)
    began = spoke = time.monotonic()
    with no_garbage_collection():
        for case in cases:
            case.prepare()
            _slice(case.run, warm_up)
        turn = 0
        while open_cases := [i for i in range(len(cases)) if turn < rounds or done[i] < runs]:
            for place in order(len(cases), turn):
                if place not in open_cases:
                    continue
                case = cases[place]
                case.prepare()
                case.run()
                before = time.process_time()
                times = _slice(case.run, seconds / rounds)
                cpu[place].append((time.process_time() - before) / len(times))
                kept[place].append(tuple(times))
                done[place] += len(times)
            turn += 1
            if turn < rounds and time.monotonic() - spoke > TALK_EVERY:
                spoke = time.monotonic()
                left = (spoke - began) * (rounds - turn) / turn
                say(f"round {turn} of {rounds}, about {left:.0f} s left")
    return [Times(tuple(turns), tuple(spent)) for turns, spent in zip(kept, cpu, strict=True)]


def order(count: int, turn: int) -> list[int]:
    """There and back, then rotated by one: everyone comes first in time, and nobody always follows the same."""
    places = [(place + turn // 2) % count for place in range(count)]
    return places[::-1] if turn % 2 else places


def _slice(run: Callable[[], object], seconds: float) -> list[float]:
    """Runs until the time is over, one at least: the seconds each took."""
    clock, times, spent = time.perf_counter, [], 0.0
    while True:
        began = clock()
        run()
        took = clock() - began
        times.append(took)
        spent += took
        if spent >= seconds:
            return times


def repeat(run: Callable[[], object], seconds: float) -> int:
    """Run for so long without a clock around each run: how often it did. For what is read beside it, as energy."""
    run()
    count = 0
    with no_garbage_collection():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run()
            count += 1
    return count


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What lies around is collected before, not in the middle of a run."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
