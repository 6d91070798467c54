"""Draw each transform of training windows, and measure its cost.

python -m scripts.augmentation_pictures
python -m scripts.augmentation_pictures --out docs/augmentation
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.audio.features import PRESETS, RATE, FrontEnd, Samples
from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from train.augment import CODECS, RAWBOOST, RESAMPLE
from train.augment.chain import Chain, Transform, played
from train.augment.codecs import Codec, available
from train.augment.features import Augment, specmix
from train.augment.filters import BandLimit, Dice
from train.augment.noise import Dither, Gain, Noise
from train.augment.rawboost import RawBoost
from train.augment.resample import RoundTrip
from train.augment.rooms import Room
from train.config import Augmentation
from train.progress import say

SECONDS = 5.3  # of sound a window of 600 frames is cut from, its lead included
SHOWN = 2.4  # s of sound in a picture
PICTURE = FrontEnd(window=512, bands=257, shape="bins", hop=130)  # a plain spectrogram, 0-8 kHz
DARKEST, BRIGHTEST = -21.0, 8.0  # log power of the colour scale's ends
DRAWS = 8  # of which a feature transform's picture shows the one that changed most
COLOURS = 32  # in a picture: small files, and no step that can be seen
# Formants of an a and an i (Hz) with their bandwidths, after Peterson & Barney (1952)
VOWELS = (((730, 90), (1090, 110), (2440, 170), (3400, 250)), ((270, 60), (2290, 120), (3010, 180), (3700, 250)))
HISS = 4500.0  # Hz, from which an s is strong
LEVEL = 0.3  # peak
OFFSET = 0.002  # DC of a cheap converter, -54 dB re full scale
NOISE = 3e-5  # of a quiet studio, one 16-bit step


@dataclass(frozen=True)
class Options:
    """Print what every transform costs as a Markdown table; with --out draw each instead."""

    out: Path | None = None
    """Folder of the pictures, a small PNG a transform: a made voice's spectrogram before and after."""
    rounds: int = 20
    """How often each transform is timed, on one window; the median counts."""
    seed: int = 11
    """Everything random follows from it; 11 draws gain and speed far from the middle."""


def main() -> None:
    options = parse(Options, "scripts.augmentation_pictures", __doc__)
    codecs, refused = available(CODECS, RATE)
    for sentence in refused:
        say(f"left out: {sentence}")
    if options.out:
        draw(options.out, codecs, options.seed)
    else:
        show_costs(codecs, options.rounds, options.seed)


def show_costs(codecs: tuple[str, ...], rounds: int, seed: int) -> None:
    """CPU time of one thread: a busy machine does not change it much. Feature transforms are timed on a batch of 32."""
    torch.set_num_threads(1)
    sound, dice = voice(RATE, SECONDS), np.random.default_rng(seed)
    torch.manual_seed(seed)
    print("| option | ms a window | windows/s |\n| --- | ---: | ---: |")

    def row(name: str, work: Callable[[], object], windows: int = 1) -> None:
        times = []
        for _ in range(rounds + 1):
            began = time.process_time()
            work()
            times.append((time.process_time() - began) / windows)
        spent = float(np.median(times[1:]))
        print(f"| {name} | {1000 * spent:.2f} | {1 / max(spent, 1e-9):,.0f} |")

    for one in sound_transforms(RATE, codecs):
        row(f"`{one.options}`", lambda one=one: one.transform(sound, dice))  # type: ignore[misc]
    chain = whole_chain(RATE, codecs)
    row("all on sound, half of the windows each", lambda: chain(sound, chain.draw_speed(dice), dice))
    for name, frontend in PRESETS.items():
        size = (frontend.width - 1) * frontend.hop + frontend.window
        row(f"front-end `{name}`", lambda frontend=frontend, size=size: frontend.frames(sound[:size]))  # type: ignore[misc]
    frontend = PRESETS["wide"]
    features = torch.randn(32, 1, frontend.bands, frontend.width)
    for other in feature_transforms(frontend):
        row(f"`{other.options}`", lambda other=other: other.transform(features), 32)  # type: ignore[misc]


def draw(folder: Path, codecs: tuple[str, ...], seed: int) -> None:
    sound, other = voice(RATE, SHOWN), voice(RATE, SHOWN, pitch=210.0)
    made = []
    for one in sound_transforms(RATE, codecs):
        after = one.transform(sound, np.random.default_rng(seed))
        pair = [PICTURE.frames(samples).T for samples in (sound, after)]
        made.append(_picture(folder / f"{one.name}.png", one.options, pair, RATE / 2000))
    frontend = PRESETS["wide"]
    both = [frontend.frames(samples).T for samples in (sound, other[::-1].copy())]
    features = torch.from_numpy(np.stack(both * DRAWS))[:, None]
    for two in feature_transforms(frontend):
        torch.manual_seed(seed)
        after = two.transform(features)[::2, 0].numpy()
        plainest = int(np.abs(after - both[0]).mean(axis=(1, 2)).argmax())  # a mask may as well be empty
        pair = [both[0], after[plainest]]
        made.append(_picture(folder / f"{two.name}.png", two.options, pair, RATE / 2000))
    say(f"{len(made)} pictures in {folder}, {sum(path.stat().st_size for path in made) / 1000:.0f} kB")


def _picture(path: Path, title: str, pair: list[NDArray[np.float32]], top: float) -> Path:
    """Before on the left, after on the right, one colour scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, axes = pyplot.subplots(1, 2, figsize=(6.4, 1.7), sharey=True, layout="constrained")
    for axis, name, frames in zip(axes, ("before", title), pair, strict=True):
        extent = (0, frames.shape[1] * PICTURE.hop / RATE, 0, top)
        axis.imshow(frames, "magma", aspect="auto", origin="lower", extent=extent, vmin=DARKEST, vmax=BRIGHTEST)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("s", fontsize=7, labelpad=0)
    axes[0].set_ylabel("kHz", fontsize=7)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=84, metadata={"Software": None})
        pyplot.close(figure)
        with Image.open(temporary) as drawn:
            small = drawn.convert("RGB").quantize(COLOURS)
        small.save(temporary, optimize=True)
    return path


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


if __name__ == "__main__":
    run(main)
