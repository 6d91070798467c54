"""Level, additive noise, and two nuisances that betray where a recording was made: DC and digital zeros."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples
from train.augment.filters import Dice, shaped

STEP = 2.0**-15  # of 16-bit samples
LOWEST = 20.0  # Hz: below, coloured noise is flat, or all its power would lie where nobody hears
OCTAVE_DB = 20 * np.log10(2)  # 6.02 dB: what one power of frequency is per octave
SLOPES = {"white": (0.0, 0.0), "pink": (-3.0, -3.0), "any": (-6.0, 0.0)}  # dB an octave, drawn between the two

Colour = Literal["white", "pink", "any"]


@dataclass(frozen=True)
class Gain:
    """Louder or softer by up to so many dB; what leaves the full scale then is clipped at the end of the chain."""

    most: float  # dB

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        return sound * np.float32(10 ** (dice.uniform(-self.most, self.most) / 20))


@dataclass(frozen=True)
class Noise:
    """Stationary noise at a signal-to-noise ratio over the whole window, pauses included."""

    snr: tuple[float, float]  # dB
    colour: Colour
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        ratio, slope = dice.uniform(*self.snr), dice.uniform(*SLOPES[self.colour])
        noise = dice.standard_normal(len(sound), np.float32)
        if slope:

            def response(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.maximum(frequency / LOWEST, 1.0) ** (slope / OCTAVE_DB)

            noise = shaped(noise, self.rate, response)
        return sound + noise * np.float32(_rms(sound) / max(_rms(noise), 1e-20) * 10 ** (-ratio / 20))


@dataclass(frozen=True)
class Dither:
    """The mean is taken out and triangular dither of so many 16-bit steps put in (Vanderkooy & Lipshitz, 1984).

    So neither an offset nor runs of exact zeros say which studio, codec or vocoder a clip came from.
    """

    steps: float

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        two = dice.random((2, len(sound)), np.float32)
        return sound - np.float32(sound.mean(dtype=np.float64)) + (two[0] - two[1]) * np.float32(self.steps * STEP)


def _rms(sound: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
