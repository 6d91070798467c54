"""Segments: ends are corrected for the window, short pauses do not split, and memory is bounded."""

import itertools

import numpy as np
import pytest

from runtime.segments import MERGED, MOST, Segment, Segments

WINDOW, STEP = 4.98, 0.0975  # s


def played(
    fake: list[tuple[float, float]], seconds: float, step: float = STEP, begin: float = 1.0
) -> tuple[Segment, ...]:
    """Segments where P(spoof) is the share of fake sound in the window, as an ideal detector without a threshold."""
    segments = Segments(WINDOW, 0.7, step)
    for time in np.arange(begin, seconds, step):
        first = max(0.0, time - WINDOW)
        share = sum(max(0.0, min(time, stop) - max(first, start)) for start, stop in fake) / (time - first)
        segments.add(float(time), share, first)
    return segments.finish(seconds)


@pytest.mark.parametrize(("start", "stop"), [(20.0, 31.0), (0.0, 12.0), (30.0, 50.0), (0.0, 50.0), (10.0, 16.0)])
def test_a_passage_is_found_where_it_is(start: float, stop: float) -> None:
    (found,) = played([(start, stop)], 50.0)
    assert found.start == pytest.approx(start, abs=0.3) and found.end == pytest.approx(stop, abs=0.3)
    assert found.peak > 0.99


@pytest.mark.parametrize(("start", "stop"), [(20.0, 31.0), (0.0, 12.0), (30.0, 50.0), (0.0, 50.0), (10.0, 16.0)])
def test_verdicts_far_apart_find_a_passage_within_half_their_interval(start: float, stop: float) -> None:
    (found,) = played([(start, stop)], 50.0, step=2.5, begin=WINDOW)
    assert found.start == pytest.approx(start, abs=1.3) and found.end == pytest.approx(stop, abs=1.3)


def test_two_passages_are_two_segments() -> None:
    assert [round(one.start) for one in played([(10, 20), (30, 40)], 50.0)] == [10, 30]


def test_where_nothing_was_fake_there_is_none() -> None:
    assert played([], 50.0) == () and played([(10, 12)], 50.0) == ()  # 2 of 5 s never reach 0.7


def test_nothing_judged_closes_a_segment() -> None:
    segments = Segments(WINDOW, 0.7)
    for time in np.arange(5.0, 20.0, STEP):
        segments.add(float(time), 0.9, float(time) - WINDOW)
    segments.add(20.0, None)
    segments.add(40.0, 0.1)
    (found,) = segments.finish(40.0)
    assert found.start == pytest.approx(2.5, abs=0.1) and found.end < 20.5


def test_segments_never_grow_without_a_limit() -> None:
    segments = Segments(1.0, 0.7)
    for number in range(3 * MOST):
        segments.add(10.0 * number, 0.9, 10.0 * number - 1)
        segments.add(10.0 * number + 5, 0.1)
    found = segments.finish()
    assert len(found) == MOST and found[-1].end > 10 * (3 * MOST - 2)
    assert all(a.end + MERGED <= b.start for a, b in itertools.pairwise(found))
