"""The high-pass: its recursion, its state, and that chunks never show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.high_pass import BLOCK, CORNER, HighPass, pole

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.05).astype(np.float32)


def recursion(samples: np.ndarray) -> np.ndarray:
    """Sample by sample, as the definition has it."""
    out, a, last, value = [], pole(RATE), float(samples[0]), 0.0
    for sample in samples.astype(np.float64):
        value, last = sample - last + a * value, sample
        out.append(value)
    return np.array(out)


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 3])
def test_blocks_give_what_the_recursion_gives(count: int) -> None:
    sound = noise(count)
    assert np.abs(HighPass(RATE).push(sound) - recursion(sound)).max() < 1e-14


@given(cuts=st.lists(st.integers(0, 5_000), max_size=12), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_any_chunking_gives_the_same_values_bit_for_bit(cuts: list[int], seed: int) -> None:
    sound, high_pass = noise(5_000, seed), HighPass(RATE)
    streamed = np.concatenate([high_pass.push(piece) for piece in np.split(sound, sorted(cuts))])
    assert np.array_equal(streamed, HighPass(RATE).push(sound))


def test_one_sample_at_a_time_gives_the_same_values() -> None:
    sound, high_pass = noise(2 * BLOCK + 7), HighPass(RATE)
    streamed = np.concatenate([high_pass.push(sound[n : n + 1]) for n in range(len(sound))])
    assert np.array_equal(streamed, HighPass(RATE).push(sound))


@pytest.mark.parametrize("offset", [0.05, -1.0, 1e4])
def test_a_constant_is_zero_from_the_first_sample_on(offset: float) -> None:
    assert not HighPass(RATE).push(np.full(3 * BLOCK, offset, np.float32)).any()


@pytest.mark.parametrize("offset", [0.05, -0.5])
def test_an_offset_never_shows(offset: float) -> None:
    sound = np.rint(noise(20_000) * 2**15).astype(np.float32) / 2**15  # whole steps, so that the sum is exact
    offset = round(offset * 2**15) / 2**15
    shifted = (sound + np.float32(offset)).astype(np.float32)
    assert np.array_equal(HighPass(RATE).push(shifted), HighPass(RATE).push(sound))


@pytest.mark.parametrize(
    "frequency, least, most", [(2.0, -21, -19), (CORNER, -3.2, -2.9), (60.0, -0.6, 0), (1e3, -0.1, 0.1)]
)
def test_it_passes_a_voice_and_stops_what_lies_below(frequency: float, least: float, most: float) -> None:
    tone = np.sin(2 * np.pi * frequency * np.arange(2 * RATE) / RATE).astype(np.float32)
    ratio = np.std(HighPass(RATE).push(tone)[RATE:]) / np.std(tone[RATE:])
    assert least <= 20 * np.log10(ratio) <= most


def test_reset_starts_anew() -> None:
    high_pass = HighPass(RATE)
    high_pass.push(noise(777, 1))
    high_pass.reset()
    assert np.array_equal(high_pass.push(noise(777)), HighPass(RATE).push(noise(777)))
    assert len(high_pass.push(np.empty(0, np.float32))) == 0
