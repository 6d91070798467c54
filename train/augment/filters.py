"""Filtering by the fast Fourier transform: by an impulse response, or by a response drawn over frequency.

Band-limiting stands here as well. It has no phase: the features are powers, and no delay has to be undone.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples

Dice = np.random.Generator
Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # frequencies in Hz -> factors on the amplitude

LARGEST = 2**22  # samples in one transform, 262 s at 16 kHz: windows are 5 s
SETTLE = 2**11  # samples of silence behind a sound, so that no filter's ringing wraps round to its beginning

# A telephone line after ITU-T G.712: flat within 1 dB from 300 to 3400 Hz, 14 dB down at 4 kHz. As Butterworth slopes:
TELEPHONE_LOW, TELEPHONE_LOW_ORDER = 250.0, 6  # Hz: -0.5 dB at 300 Hz, -12 dB at 200 Hz
TELEPHONE_HIGH, TELEPHONE_HIGH_ORDER = 3600.0, 16  # Hz: -0.6 dB at 3400 Hz, -15 dB at 4 kHz

RANDOM_LOW = (20.0, 400.0)  # Hz, corners of random high-passes: from a good microphone to a small one
RANDOM_HIGH = (2000.0, 8000.0)  # Hz, corners of random low-passes: from a bad line to the full band
RANDOM_ORDER = (2, 16)  # from 12 to 96 dB an octave


@lru_cache(maxsize=1)
def _smooth_numbers() -> list[int]:
    """Every even 2^a 3^b 5^c up to LARGEST: lengths whose transforms are fast."""
    found = [2]
    for prime in (2, 3, 5):
        for number in found:  # it grows while it is walked
            if number * prime <= LARGEST:
                found.append(number * prime)
    return sorted(found)


def fast_length(least: int) -> int:
    """An even one, so that the last frequency is half the rate."""
    numbers = _smooth_numbers()
    return numbers[bisect_left(numbers, least)]


def convolve(sound: Samples, response: NDArray[Any]) -> Samples:
    """The first len(sound) samples of the convolution: (n,), (m,) -> (n,)."""
    size = fast_length(len(sound) + len(response) - 1)
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(response.astype(np.float32), size)
    return np.fft.irfft(spectrum, size)[: len(sound)].astype(np.float32)


def shaped(sound: Samples, rate: int, response: Response) -> Samples:
    """Every frequency times the response's factor, without any delay: (n,) -> (n,)."""
    size = fast_length(len(sound) + SETTLE)
    factors = response(np.linspace(0, rate / 2, size // 2 + 1)).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(sound, size) * factors, size)[: len(sound)].astype(np.float32)


def as_long(sound: Samples, length: int) -> Samples:
    """Cut, or filled with zeros: codecs and resamplers may add or lose an end."""
    return np.pad(sound[:length], (0, max(0, length - len(sound))))


def band(low: float, low_order: int, high: float, high_order: int) -> Response:
    """Butterworth's amplitude: -3 dB at both corners, `order` times 6 dB an octave beyond."""

    def response(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        below = (low / np.maximum(frequency, 1e-3)) ** (2 * low_order)
        above = (frequency / high) ** (2 * high_order)
        return 1 / np.sqrt((1 + below) * (1 + above))

    return response


TELEPHONE = band(TELEPHONE_LOW, TELEPHONE_LOW_ORDER, TELEPHONE_HIGH, TELEPHONE_HIGH_ORDER)


@dataclass(frozen=True)
class BandLimit:
    """A telephone's band, or a high-pass and a low-pass with random corners and slopes."""

    kind: Literal["telephone", "random"]
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        if self.kind == "telephone":
            return shaped(sound, self.rate, TELEPHONE)
        low, high = (float(np.exp(dice.uniform(*np.log(limits)))) for limits in (RANDOM_LOW, RANDOM_HIGH))
        orders = dice.integers(*RANDOM_ORDER, size=2, endpoint=True).tolist()
        return shaped(sound, self.rate, band(low, orders[0], high, orders[1]))
