"""The clock: who runs when, what counts, and which run a percentile is. No test asserts how long anything takes."""

import gc
import time
from collections import Counter
from fractions import Fraction

import pytest

from benchmarks.timing import Case, Times, measure, no_garbage_collection, order, percentile_index, repeat


@pytest.mark.parametrize("percent", [1, 25, 50, 75, 90, 95, 99, 100])
def test_percentiles_are_trtexecs(percent: int) -> None:
    for count in range(1, 1200):
        by_the_book = max(count - 1 - int((1 - Fraction(percent, 100)) * count), 0)
        assert percentile_index(count, percent) == by_the_book


def test_of_ten_runs_p90_is_the_last_but_one_and_p99_the_last() -> None:
    times = Times((tuple(float(n) for n in range(5, 10)), tuple(float(n) for n in range(5))))
    assert (times.percentile(90), times.percentile(99), times.median, times.mean) == (8.0, 9.0, 4.5, 4.5)
    assert times.medians == (7.0, 2.0) and times.count == 10
    assert times.variation == pytest.approx((99 / 12) ** 0.5 / 4.5)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_everyone_has_its_turn_and_no_fixed_neighbour(count: int) -> None:
    orders = [order(count, turn) for turn in range(2 * count)]
    assert all(sorted(places) == list(range(count)) for places in orders)
    firsts = Counter(places[0] for places in orders)
    assert set(firsts) == set(range(count))
    if count > 2:
        for case in range(count):
            before = {places[places.index(case) - 1] for places in orders if places.index(case)}
            assert len(before) > 1


def recorded(names: str, **given: float) -> tuple[list[str], list[Times]]:
    """What runs in which order: small letters are runs, capitals preparations."""
    log: list[str] = []
    cases = [
        Case(name, lambda name=name: log.append(name), lambda name=name: log.append(name.upper()))  # type: ignore[misc]
        for name in names
    ]
    return log, measure(cases, **given)  # type: ignore[arg-type]


def test_cases_take_turns_and_a_slices_first_run_does_not_count() -> None:
    log, times = recorded("abc", seconds=1e-9, runs=1, rounds=4, warm_up=1e-9)
    # Warm-up is a run each. Then a slice is preparation, the run that does not count, and one that does.
    rounds = "".join(log).removeprefix("AaBbCc")
    assert rounds == "AaaBbbCcc" + "CccBbbAaa" + "BbbCccAaa" + "AaaCccBbb"
    assert all(found.count == 4 and len(found.rounds) == 4 for found in times)


def test_each_case_gets_its_seconds_and_its_runs() -> None:
    _, times = recorded("ab", seconds=0.02, runs=10, rounds=5, warm_up=0.0)
    for found in times:
        assert sum(found.sorted) >= 0.02 and found.count >= 10 and len(found.rounds) == 5
    _, times = recorded("ab", seconds=1e-9, runs=17, rounds=2, warm_up=0.0)
    assert [found.count for found in times] == [17, 17]


def test_the_processors_time_leaves_out_what_a_run_waits() -> None:
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


def test_repeat_counts_its_runs_but_the_first() -> None:
    seen: list[int] = []
    assert repeat(lambda: seen.append(1), 0.01) == len(seen) - 1 > 0
