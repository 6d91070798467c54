"""Round trips through other sample rates, by several resamplers: 16 kHz -> 44.1 kHz -> 16 kHz.

A recording has passed the anti-alias filters of whoever made, edited and converted it. Each leaves its own slope below
half of the lower rate, and fakes are mostly made at 22.05 or 24 kHz. A round trip puts such slopes on both classes.
Either way draws its own resampler, because recordings are rarely converted twice by the same program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import soxr

from runtime.audio.features import Samples
from train.augment.filters import Dice, as_long

if TYPE_CHECKING:
    from torchaudio.transforms import Resample as SincResample

Way = Callable[[Samples, int, int], Samples]  # samples, from which rate, to which

# Windowed sinc filters: zero crossings, rolloff, window and Kaiser's beta.
SINCS: dict[str, tuple[int, float, str, float | None]] = {
    "hann": (6, 0.99, "sinc_interp_hann", None),  # torchaudio's default
    "swresample": (16, 0.97, "sinc_interp_kaiser", 9.0),  # ffmpeg's default filter
    "kaiser-best": (64, 0.9475937167399596, "sinc_interp_kaiser", 14.769656459379492),  # librosa's two, by resampy
    "kaiser-fast": (16, 0.85, "sinc_interp_kaiser", 8.555504641634386),
}


@lru_cache(maxsize=64)  # each way of each pair of rates, there and back: 4 x 6 x 2
def _sinc(name: str, rate: int, wanted: int) -> "SincResample":
    from torchaudio.transforms import Resample as SincResample  # cached features are read without torch

    crossings, rolloff, window, beta = SINCS[name]
    return SincResample(rate, wanted, window, crossings, rolloff, beta)


def _by_sinc(name: str) -> Way:
    def resample(sound: Samples, rate: int, wanted: int) -> Samples:
        import torch

        with torch.inference_mode():
            found: Samples = _sinc(name, rate, wanted)(torch.from_numpy(sound)).numpy()
        return found

    return resample


def _by_soxr(quality: str) -> Way:
    return lambda sound, rate, wanted: soxr.resample(sound, rate, wanted, quality)


def linear(sound: Samples, rate: int, wanted: int) -> Samples:
    """Linear interpolation without any filter: what simple programs do. It droops and aliases."""
    places = np.arange(len(sound) * wanted // rate) * (rate / wanted)
    return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)


WAYS: dict[str, Way] = {
    **{f"soxr-{quality.lower()}": _by_soxr(quality) for quality in ("QQ", "LQ", "MQ", "HQ", "VHQ")},
    **{name: _by_sinc(name) for name in SINCS},
    "linear": linear,
}


@dataclass(frozen=True)
class RoundTrip:
    """To one of the rates and back, each way by a resampler of its own."""

    rates: tuple[int, ...]  # Hz
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        other = self.rates[dice.integers(len(self.rates))]
        there, back = (list(WAYS)[number] for number in dice.integers(len(WAYS), size=2))
        return round_trip(sound, self.rate, other, there, back)


def round_trip(sound: Samples, rate: int, other: int, there: str, back: str) -> Samples:
    """(n,) -> (n,): the named ways to the other rate and back."""
    elsewhere = WAYS[there](np.ascontiguousarray(sound, np.float32), rate, other)
    return as_long(WAYS[back](elsewhere, other, rate), len(sound))
