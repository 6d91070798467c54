"""Sounds without a voice: silence, noise, hum, tones, music, clicks, a fan. 16 kHz float32, peak below 1."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
SECONDS = 8
COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0, "blue": -0.5}  # exponent of 1/f in amplitude
GAINS = {"": 1.0, "quiet": 0.05}


def without_voice(seed: int = 0) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and samples of each sound, loud and quiet."""
    rng = np.random.default_rng(seed)
    for name, sound in _sounds(rng):
        peak = np.abs(sound).max() or 1.0
        for suffix, gain in GAINS.items():
            yield f"{name} {suffix}".strip(), (0.5 * gain / peak * sound).astype(np.float32)


def _sounds(rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float64]]]:
    count = SECONDS * RATE
    time = np.arange(count) / RATE
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.arange(len(spectrum)) / SECONDS
    yield "zeros", np.zeros(count)
    for colour, exponent in COLOURS.items():
        yield f"{colour} noise", np.fft.irfft(spectrum / np.maximum(frequency, 1) ** exponent)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 1)))
    for rate in (1, 4, 8):
        yield f"pink noise pulsing at {rate} Hz", pink * (1 + np.sin(2 * np.pi * rate * time))
    for hertz in (50, 60, 100, 120):
        yield f"hum of {hertz} Hz", sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 8))
    for chord in ((440,), (1000,), (3000,), (220, 277, 330), (262, 330, 392, 523), (440, 880, 1320)):
        yield f"tones {chord}", sum(np.sin(2 * np.pi * hertz * time) for hertz in chord)
    for base in (220, 440):
        notes = base * 2 ** (np.repeat(rng.integers(0, 12, 4 * SECONDS), RATE // 4) / 12)
        bells = np.exp(-8 * (time % 0.25))
        yield f"bells from {base} Hz", bells * np.sin(2 * np.pi * np.cumsum(notes) / RATE)
    for gap in (0.1, 0.33, 1.0):
        clicks = np.zeros(count)
        clicks[:: int(gap * RATE)] = 1
        yield f"a click every {gap} s", clicks
    fan = np.fft.irfft(spectrum * np.exp(-(((frequency - 300) / 400) ** 2)))
    yield "fan", fan * (1 + 0.2 * np.sin(2 * np.pi * 23 * time))
    yield "dial tone", np.sin(2 * np.pi * 350 * time) + np.sin(2 * np.pi * 440 * time)
    yield "busy tone", (np.sin(2 * np.pi * 480 * time) + np.sin(2 * np.pi * 620 * time)) * (time % 1 < 0.5)
