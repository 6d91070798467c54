"""A synthesised voice, and every transform at a strength that can be seen: for pictures and for timing.

No recording of anybody is needed: two vowels, a fricative, a pause of digital zeros, on a wandering pitch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runtime.audio.features import FrontEnd, Samples
from train.augment import RAWBOOST, RESAMPLE
from train.augment.chain import Chain, Transform, played
from train.augment.codecs import Codec
from train.augment.features import Augment, specmix
from train.augment.filters import BandLimit, Dice
from train.augment.noise import Dither, Gain, Noise
from train.augment.rawboost import RawBoost
from train.augment.resample import RoundTrip
from train.augment.rooms import Room
from train.config import Augmentation

# Formants of an a and an i (Hz) with their bandwidths, after Peterson & Barney (1952)
VOWELS = (((730, 90), (1090, 110), (2440, 170), (3400, 250)), ((270, 60), (2290, 120), (3010, 180), (3700, 250)))
HISS = 4500.0  # Hz, from which an s is strong
LEVEL = 0.3  # peak
OFFSET = 0.002  # DC of a cheap converter, -54 dB re full scale
NOISE = 3e-5  # of a quiet studio, one 16-bit step


def voice(rate: int, seconds: float, pitch: float = 120.0) -> Samples:
    """a, s, a pause without a single bit set, i: (samples,)."""
    dice, time = np.random.default_rng(0), np.arange(int(rate * seconds)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.12 * np.sin(2 * np.pi * 0.9 * time))) / rate
    pulses = (np.diff(np.floor(phase / (2 * np.pi)), prepend=0) > 0).astype(float)
    spectrum, frequency = np.fft.rfft(pulses), np.fft.rfftfreq(len(time), 1 / rate)
    vowels = []
    for formants in VOWELS:
        poles = np.ones(len(frequency), complex)
        for centre, width in formants:
            poles *= centre**2 / (centre**2 - frequency**2 + 1j * frequency * width)
        vowels.append(np.fft.irfft(spectrum * poles, len(time)))
    hiss = np.fft.irfft(np.fft.rfft(dice.standard_normal(len(time))) * (frequency > HISS), len(time))
    sounds = [one / np.abs(one).max() for one in (vowels[0], hiss, vowels[1])]
    spans = [(0.03, 0.38), (0.36, 0.55), (0.68, 0.97)]  # shares of the whole
    mixed, spoken = np.zeros(len(time)), np.zeros(len(time), bool)
    for sound, (begin, end) in zip(sounds, spans, strict=True):
        inside = (time / seconds - begin) / (end - begin)
        during = (inside > 0) & (inside < 1)
        mixed[during] += (sound * np.sin(np.pi * np.clip(inside, 0, 1)) ** 0.5)[during]
        spoken |= during
    mixed = LEVEL * mixed / np.abs(mixed).max() + OFFSET + NOISE * dice.standard_normal(len(time))
    samples = np.where(spoken, mixed, 0.0)
    return (np.rint(samples * 2**15) / 2**15).astype(np.float32)


@dataclass(frozen=True)
class OnSound:
    """A transform of sound, and the options that ask for it."""

    name: str
    options: str
    transform: Transform


@dataclass(frozen=True)
class OnFeatures:
    """A transform of a batch of raw features (batch, 1, bands, frames)."""

    name: str
    options: str
    transform: Callable[[Tensor], Tensor]


def sound_transforms(rate: int, codecs: tuple[str, ...]) -> list[OnSound]:
    """All of them, in the order of the chain."""

    def faster(sound: Samples, dice: Dice) -> Samples:
        return played(sound, 1 + dice.uniform(-0.1, 0.1))

    shown = [
        OnSound("speed", "--speed 10", faster),
        OnSound("rir", "--rir synthetic", Room((), rate)),
        OnSound("snr-white", "--snr 15 15 --noise-colour white", Noise((15, 15), "white", rate)),
        OnSound("snr-pink", "--snr 15 15 --noise-colour pink", Noise((15, 15), "pink", rate)),
        OnSound("sound-gain", "--sound-gain 20", lambda sound, dice: np.clip(Gain(20)(sound, dice), -1, 1)),
    ]
    shown += [OnSound(f"rawboost-{part}", f"--rawboost {part}", RawBoost((part,), rate)) for part in RAWBOOST]
    shown += [OnSound(f"band-{kind}", f"--band {kind}", BandLimit(kind, rate)) for kind in ("telephone", "random")]
    shown.append(OnSound("resample", f"--resample {','.join(RESAMPLE)}", RoundTrip(tuple(map(int, RESAMPLE)), rate)))
    shown += [OnSound(f"codec-{name}", f"--codecs {name}", Codec((name,), rate)) for name in codecs]
    return [*shown, OnSound("dither", "--dither 1", Dither(1.0))]


def feature_transforms(frontend: FrontEnd) -> list[OnFeatures]:
    def augment(settings: Augmentation) -> Callable[[Tensor], Tensor]:
        return Augment(settings, frontend).train()

    def mixed(features: Tensor) -> Tensor:
        return specmix(features, torch.zeros(len(features)), 1.0, "share")[0]

    bands = frontend.bands // 5
    return [
        OnFeatures("gain", "--gain 12", augment(Augmentation(gain=12.0))),
        OnFeatures("noise", "--noise -45 -45", augment(Augmentation(noise=(-45.0, -45.0)))),
        OnFeatures("mask-bands", f"--mask-bands {bands}", augment(Augmentation(mask_bands=bands))),
        OnFeatures("mask-frames", "--mask-frames 60", augment(Augmentation(mask_frames=60))),
        OnFeatures("specmix", "--specmix 0.5", mixed),
    ]


def whole_chain(rate: int, codecs: tuple[str, ...]) -> Chain:
    """Everything on, each for half of the windows: what a run with all of it pays."""
    parts = [one.transform for one in sound_transforms(rate, ()) if not one.name.startswith(("speed", "snr-white"))]
    return Chain((*parts, Codec(codecs, rate)), 0.5, 0.1)
