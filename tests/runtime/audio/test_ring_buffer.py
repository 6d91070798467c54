"""The sliding window: always the newest frames, always contiguous."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import fill
from runtime.audio.ring_buffer import RingBuffer


def frames(count: int, bands: int = 3, start: int = 0) -> np.ndarray:
    """Every value tells its frame and its band."""
    return (np.arange(start, start + count)[:, None] * 10 + np.arange(bands)).astype(np.float32)


@given(pieces=st.lists(st.integers(0, 40), min_size=1, max_size=60), width=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_the_view_is_the_newest_frames(pieces: list[int], width: int) -> None:
    window, seen = RingBuffer(3, width), 0
    for count in pieces:
        window.push(frames(count, start=seen))
        seen += count
        assert window.count == seen and window.full == (seen >= width)
        if seen:
            assert window.view.shape == (3, width) and window.view.flags.c_contiguous
            expected = fill(frames(seen), width) if seen < width else frames(seen)[-width:]
            assert np.array_equal(window.view, expected.T)


def test_a_full_window_keeps_its_memory() -> None:
    window = RingBuffer(2, 6)
    window.push(frames(6, 2))
    view = window.view
    for start in range(6, 5000, 3):
        window.push(frames(3, 2, start))
        assert window.view is view


def test_reset_forgets() -> None:
    window = RingBuffer(3, 5)
    window.push(frames(9))
    window.reset()
    with pytest.raises(ValueError):
        _ = window.view
    window.push(frames(2, start=50))
    assert np.array_equal(window.view, fill(frames(2, start=50), 5).T)
