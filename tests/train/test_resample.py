"""Round trips through other rates: they keep the middle of the band, its timing and its length."""

import numpy as np
import pytest

from runtime.audio.features import RATE
from scripts.demonstration_sound import voice
from train.augment import RESAMPLE
from train.augment.chain import build_chain
from train.augment.resample import WAYS, RoundTrip, round_trip
from train.config import Augmentation

RATES = [int(rate) for rate in RESAMPLE]


def tone(frequency: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_keeps_a_voice_its_length_and_its_timing(way: str, rate: int) -> None:
    sound = voice(RATE, 1.0)
    after = round_trip(sound, RATE, rate, way, way)
    assert after.shape == sound.shape and after.dtype == np.float32
    spectrum = np.fft.rfft(sound, 2 * RATE) * np.fft.rfft(after, 2 * RATE).conj()
    spectrum[2 * 3_000 :] = 0  # below the lowest rate's band
    assert abs((np.fft.irfft(spectrum).argmax() + RATE) % (2 * RATE) - RATE) <= 1
    kept = np.std(round_trip(tone(500.0), RATE, rate, way, way)[1000:-1000]) / np.std(tone(500.0)[1000:-1000])
    assert abs(20 * np.log10(kept)) < 0.5


@pytest.mark.parametrize("way", ["soxr-hq", "swresample", "kaiser-best"])
def test_half_of_the_lower_rate_is_all_that_is_left(way: str) -> None:
    assert np.std(round_trip(tone(6_000.0), RATE, 8_000, way, way)[1000:-1000]) < 0.01 * np.std(tone(6_000.0))
    assert np.std(round_trip(tone(6_000.0), RATE, 24_000, way, way)[1000:-1000]) > 0.9 * np.std(tone(6_000.0))


def test_rates_and_ways_are_drawn_anew() -> None:
    trip, sound = RoundTrip(tuple(RATES), RATE), voice(RATE, 1.0)
    results = {trip(sound, np.random.default_rng(seed)).tobytes() for seed in range(40)}
    assert len(results) > 30


def test_the_chain_holds_the_rates_that_were_asked_for() -> None:
    chain = build_chain(Augmentation(resample="44100,8000"), RATE)
    assert chain is not None and chain.transforms == (RoundTrip((44_100, 8_000), RATE),)
