"""Level, silence and flags of an input, for any chunking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import PRESETS, RATE
from runtime.audio.quality import FLAGS, Quality, QualityMonitor


def voice(seconds: float, seed: int = 0, low: float = 0.0, high: float = 8000.0, level: float = 0.1) -> np.ndarray:
    """Noise with speech's slope, 6 dB per octave above 500 Hz; nothing outside of the band."""
    count = int(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    spectrum /= np.maximum(1, frequencies / 500)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    sound = np.fft.irfft(spectrum, count)
    return (sound / sound.std() * level).astype(np.float32)


def judged(preset: str, *sounds: np.ndarray) -> Quality:
    monitor = QualityMonitor(PRESETS[preset])
    for sound in sounds:
        monitor.push(sound)
    return monitor.report()


@pytest.mark.parametrize("preset", ["f0", "wide", "mel"])
def test_a_clean_voice_has_no_flags(preset: str) -> None:
    quality = judged(preset, voice(6.0))
    assert quality.flags == () and not quality.silent
    assert quality.level == pytest.approx(-20, abs=1.5)


@pytest.mark.parametrize(("preset", "flag"), [("f0", "no-low-band"), ("wide", "no-high-band"), ("mel", "no-high-band")])
def test_a_telephone_line_blinds_each_model_where_it_looks(preset: str, flag: str) -> None:
    assert judged(preset, voice(6.0, low=300, high=3400)).flags == (flag,)


def test_only_the_band_that_matters_matters() -> None:
    assert judged("f0", voice(6.0, high=3400)).flags == ()
    assert judged("wide", voice(6.0, low=300)).flags == ()


def test_a_band_is_not_called_missing_before_there_was_voice() -> None:
    assert judged("f0", voice(1.5, low=300)).flags == ()
    assert judged("f0", voice(6.0, low=300, level=1e-4)).silent


def test_overdriven_and_quiet() -> None:
    assert judged("f0", np.clip(voice(3.0, level=0.6), -1, 1)).flags == ("clipping",)
    assert judged("f0", voice(3.0, level=0.002)).flags == ("quiet",)


def test_clipping_is_flagged_as_long_as_the_window_contains_it() -> None:
    overdriven = np.clip(voice(1.0, level=0.6), -1, 1)
    assert judged("f0", overdriven, voice(3.5)).flags == ("clipping",)
    assert judged("f0", overdriven, voice(8.0)).flags == ()


def test_a_voice_below_the_level_of_silence_is_quiet() -> None:
    assert judged("f0", voice(3.0, level=3e-4)).flags == ("quiet",)
    monitor = QualityMonitor(PRESETS["f0"])
    monitor.push(voice(3.0, level=3e-4))
    assert monitor.report(voice=False).flags == ()


def test_zeros_and_silence() -> None:
    quality = judged("f0", voice(3.0), np.zeros(3 * RATE, np.float32))
    assert quality.silent and quality.flags == ("zeros",)
    assert not judged("f0", voice(3.0), np.zeros(RATE // 2, np.float32)).silent
    hiss = judged("f0", voice(3.0), voice(3.0, level=1e-4))
    assert hiss.silent and hiss.flags == ()


def test_lost_sound_is_flagged_as_long_as_the_window_may_contain_it() -> None:
    monitor = QualityMonitor(PRESETS["f0"])
    monitor.mark(["lost", "invalid"])
    monitor.push(voice(4.0))
    assert monitor.report().flags == ("invalid", "lost")
    monitor.push(voice(1.5))
    assert monitor.report().flags == ()
    monitor.mark(["invalid"], 2 * RATE)  # a block of 2 s: its last sample leaves the window 2 s later
    monitor.push(voice(6.5))
    assert monitor.report().flags == ("invalid",)
    monitor.push(voice(0.5))
    assert monitor.report().flags == ()


@given(cuts=st.lists(st.integers(0, 3 * RATE), max_size=8))
@settings(max_examples=20, deadline=None)
def test_quality_does_not_depend_on_chunks(cuts: list[int]) -> None:
    sound = voice(3.0, low=300)
    whole, pieces = judged("f0", sound), judged("f0", *np.split(sound, sorted(cuts)))
    assert (whole.level, whole.silent, whole.flags) == (pieces.level, pieces.silent, pieces.flags)
    assert np.array_equal(whole.spectrum, pieces.spectrum)


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=50, deadline=None)
def test_any_samples_leave_finite_figures(value: float) -> None:
    quality = judged("wide", np.full(4096, value, np.float32))
    assert np.isfinite(quality.level) and np.isfinite(quality.spectrum).all()
    assert set(quality.flags) <= set(FLAGS)
