"""RawBoost (Tak et al., ICASSP 2022): what telephone and microphone chains do to speech, without outside data.

    lnl   linear and non-linear convolutive noise: powers 1 to 5 of the sound, each through its own random notch filter
    isd   impulsive, signal-dependent noise: up to a tenth of the samples moves in proportion to itself
    ssi   stationary, signal-independent noise: white noise through a notch filter, 10 to 40 dB under the sound

Parameters are the published defaults; several are applied in series, in the order given. Deviations: an empty notch
filter's gain is bounded, silence stays silence, and filters are as long as they are drawn (odd, as there).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples
from train.augment.filters import Dice, convolve

NOTCHES = 5  # band-stop filters in one notch filter
CENTRE = (20.0, 8000.0)  # Hz
BANDWIDTH = (100.0, 1000.0)  # Hz
TAPS = (10, 100)  # of each band-stop; even draws become odd
POWERS = 5  # of the sound
NONLINEAR_GAIN = (-20.0, -5.0)  # dB, of the powers above the first
IMPULSES = 10.0  # %, most samples that move
IMPULSE_GAIN = 2.0
SNR = (10.0, 40.0)  # dB
GRID = 512  # frequencies at which a filter's peak is looked for


@dataclass(frozen=True)
class RawBoost:
    """The named noises, one after the other."""

    parts: tuple[str, ...]
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        for part in self.parts:
            if part == "lnl":
                sound = convolutive(sound, self.rate, dice)
            elif part == "isd":
                sound = impulsive(sound, dice)
            else:
                sound = stationary(sound, self.rate, dice)
        return sound


def convolutive(sound: Samples, rate: int, dice: Dice) -> Samples:
    result = np.zeros_like(sound)
    power = np.ones_like(sound)
    for number in range(POWERS):
        power = power * sound
        gain = dice.uniform(*NONLINEAR_GAIN) if number else 0.0
        result += _centred(power, notch(rate, gain, dice))
    return _within_scale(result - result.mean(dtype=np.float64).astype(np.float32))


def impulsive(sound: Samples, dice: Dice) -> Samples:
    count = int(len(sound) * dice.uniform(0, IMPULSES) / 100)
    places = dice.permutation(len(sound))[:count]
    one, other = dice.uniform(-1, 1, (2, count)).astype(np.float32)
    result = sound.copy()
    result[places] += np.float32(IMPULSE_GAIN) * sound[places] * one * other
    return _within_scale(result)


def stationary(sound: Samples, rate: int, dice: Dice) -> Samples:
    noise = _centred(dice.standard_normal(len(sound), np.float32), notch(rate, 0.0, dice))
    size = float(np.linalg.norm(sound)) / max(float(np.linalg.norm(noise)), 1e-20)
    return sound + noise * np.float32(size * 10 ** (-dice.uniform(*SNR) / 20))


def notch(rate: int, gain: float, dice: Dice) -> NDArray[np.float64]:
    """Five band-stops in series with a peak of `gain` dB: (taps,), an odd number of them."""
    result = np.ones(1)
    for _ in range(NOTCHES):
        centre, width = dice.uniform(*CENTRE), dice.uniform(*BANDWIDTH)
        taps = int(dice.integers(*TAPS)) | 1
        low, high = max(centre - width / 2, 1e-3), min(centre + width / 2, rate / 2 - 1e-3)
        result = np.convolve(result, band_stop(taps, 2 * low / rate, 2 * high / rate))
    peak = np.abs(np.fft.rfft(result, 2 * GRID)).max()
    return result * 10 ** (gain / 20) / max(float(peak), 1e-20)


def band_stop(taps: int, low: float, high: float) -> NDArray[np.float64]:
    """A windowed-sinc band-stop, Hamming, 1 at DC; edges as shares of half the rate: (taps,)."""
    place = np.arange(taps) - (taps - 1) / 2
    ideal = low * np.sinc(low * place) + np.sinc(place) - high * np.sinc(high * place)
    response = ideal * np.hamming(taps)
    return response / response.sum()


def _centred(sound: Samples, response: NDArray[np.float64]) -> Samples:
    """A filter of odd length without its delay: (n,) -> (n,)."""
    half = len(response) // 2
    padded = np.concatenate([sound, np.zeros(half, np.float32)])
    return convolve(padded, response)[half:]


def _within_scale(sound: Samples) -> Samples:
    peak = float(np.abs(sound).max(initial=0.0))
    return sound / np.float32(peak) if peak > 1 else sound
