"""Timing: order of turns, counted runs and percentiles. No test asserts how long anything takes."""

import gc
import time
from collections import Counter
from fractions import Fraction

import pytest

from benchmarks.stats import Case, Times, measure, no_garbage_collection, order


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 100])
def test_percentiles_are_trtexecs(percent: int) -> None:
    for count in range(1, 300):
        place = max(count - 1 - int((1 - Fraction(percent, 100)) * count), 0)
        assert Times((tuple(map(float, range(count))),)).percentile(percent) == place


def test_statistics_of_ten_runs() -> None:
    times = Times((tuple(float(n) for n in range(5, 10)), tuple(float(n) for n in range(5))))
    assert (times.percentile(90), times.percentile(99), times.median, times.mean) == (8.0, 9.0, 4.5, 4.5)
    assert times.medians == (7.0, 2.0) and times.variation == pytest.approx((99 / 12) ** 0.5 / 4.5)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_every_case_has_its_turn_and_no_fixed_neighbour(count: int) -> None:
    orders = [order(count, turn) for turn in range(2 * count)]
    assert all(sorted(places) == list(range(count)) for places in orders)
    assert set(Counter(places[0] for places in orders)) == set(range(count))
    for case in range(count if count > 2 else 0):
        before = {places[places.index(case) - 1] for places in orders if places.index(case)}
        assert len(before) > 1


def recorded(names: str, **given: float) -> tuple[list[str], list[Times]]:
    """The order of runs."""
    log: list[str] = []
    cases = [Case(name, lambda name=name: log.append(name)) for name in names]  # type: ignore[misc]
    return log, measure(cases, **given)  # type: ignore[arg-type]


def test_cases_take_turns_and_the_first_run_of_a_slice_does_not_count() -> None:
    log, times = recorded("abc", seconds=1e-9, runs=1, rounds=4, warm_up=1e-9)
    rounds = "".join(log).removeprefix("abc")  # warm-up
    assert rounds == "aabbcc" + "ccbbaa" + "bbccaa" + "aaccbb"
    assert all(len(found.sorted) == 4 and len(found.rounds) == 4 for found in times)


def test_each_case_gets_its_seconds_and_its_runs() -> None:
    _, times = recorded("ab", seconds=0.02, runs=10, rounds=5, warm_up=0.0)
    assert all(sum(found.sorted) >= 0.02 and len(found.sorted) >= 10 and len(found.rounds) == 5 for found in times)
    _, times = recorded("ab", seconds=1e-9, runs=17, rounds=2, warm_up=0.0)
    assert [len(found.sorted) for found in times] == [17, 17]


def test_processor_time_excludes_waiting() -> None:
    (found,) = measure([Case("a", lambda: time.sleep(0.02))], seconds=1e-9, runs=1, rounds=4, warm_up=0.0)
    assert len(found.cpu) == 4
    assert all(0 < spent < 0.02 <= took for spent, took in zip(found.cpu, found.medians, strict=True))


def test_garbage_is_collected_before_and_not_during() -> None:
    seen: list[bool] = []
    measure([Case("a", lambda: seen.append(gc.isenabled()))], seconds=1e-9, runs=3, rounds=1, warm_up=0.0)
    assert seen and not any(seen) and gc.isenabled()
    with pytest.raises(KeyboardInterrupt), no_garbage_collection():
        raise KeyboardInterrupt
    assert gc.isenabled()
