"""The way from a mouth to a detector, as the settings want it:

    speed -> room -> noise -> gain -> RawBoost -> band -> resample -> codec -> dither

    chain = build_chain(settings.augmentation, rate)        # None where nothing is done to sound
    heard = chain(samples, speed, dice)

Each transform that is on touches a window with the probability `--sound-share`, on its own, so that windows with all,
some and none of them are seen. Only `speed` changes the length; all others give as many samples as came.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soxr

from runtime.audio.features import Samples
from runtime.support.errors import ShrikeError
from train.augment.codecs import Codec, available
from train.augment.filters import BandLimit, Dice
from train.augment.noise import Dither, Gain, Noise
from train.augment.rawboost import RawBoost
from train.augment.resample import RoundTrip
from train.augment.rooms import Room, load_rooms
from train.config import Augmentation
from train.progress import say

Transform = Callable[[Samples, Dice], Samples]


@dataclass(frozen=True)
class Chain:
    """All that is done to sound, in order."""

    transforms: tuple[Transform, ...]
    share: float  # of the windows that each transform touches
    speed: float  # most change of speed, as a share

    def draw_speed(self, dice: Dice) -> float:
        """Factor on this window's speed; drawn first, because it decides how much sound is read."""
        if not self.speed or dice.random() >= self.share:
            return 1.0
        return 1.0 + dice.uniform(-self.speed, self.speed)

    def __call__(self, sound: Samples, speed: float, dice: Dice) -> Samples:
        """(n,) -> (about n / speed,), within full scale."""
        if speed != 1.0:
            sound = played(sound, speed)
        for transform in self.transforms:
            if dice.random() < self.share:
                sound = transform(sound, dice)
        return np.clip(sound, -1.0, 1.0)


def played(sound: Samples, speed: float) -> Samples:
    """Faster and higher, as a tape: resampled as if it had been recorded at `speed` times its rate."""
    return soxr.resample(sound, speed, 1.0, "HQ")


def build_chain(settings: Augmentation, rate: int, quiet: bool = False) -> Chain | None:
    """The chain that the settings ask for; says what of it cannot be had here. None where sound stays as it is."""
    if not settings.on_sound:
        return None
    made: list[Transform] = []
    if settings.rir:
        made.append(_room(settings.rir, rate, quiet))
    if settings.snr:
        made.append(Noise(settings.snr, settings.noise_colour, rate))
    if settings.sound_gain:
        made.append(Gain(settings.sound_gain))
    if settings.rawboost:
        made.append(RawBoost(tuple(settings.rawboost.split(",")), rate))
    if settings.band != "full":
        made.append(BandLimit(settings.band, rate))
    if settings.resample:
        made.append(RoundTrip(tuple(int(part) for part in settings.resample.split(",")), rate))
    if settings.codecs:
        made.append(_codec(settings.codecs, rate, quiet))
    if settings.dither:
        made.append(Dither(settings.dither))
    return Chain(tuple(made), settings.sound_share, settings.speed / 100)


def identity(settings: Augmentation) -> dict[str, Any]:
    """Return what determines a clip's sound behind the chain, apart from the random numbers."""
    folder = Path(settings.rir).expanduser()
    rooms = sorted([path.name, path.stat().st_size] for path in folder.rglob("*")) if settings.rir else []
    return {**settings.of_sound(), "rir": rooms or settings.rir}


def changed(sound: Samples, chain: Chain, version: int) -> Samples:
    """Pass a whole clip through the chain; the random numbers follow from the version and the samples."""
    dice = np.random.default_rng([version, crc32(np.ascontiguousarray(sound).data)])
    return chain(sound, chain.draw_speed(dice), dice)


def _room(wanted: str, rate: int, quiet: bool) -> Room:
    if wanted == "synthetic":
        return Room((), rate)
    responses, refused = load_rooms(Path(wanted).expanduser(), rate)
    if not quiet:
        say(f"{len(responses)} impulse responses from {wanted}")
        for sentence in refused:
            say(f"  left out: {sentence}")
    return Room(responses, rate)


def _codec(wanted: str, rate: int, quiet: bool) -> Codec:
    working, refused = available(wanted.split(","), rate)
    if not working:
        raise ShrikeError(f"--codecs {wanted}: none of them works here, one was expected: {'; '.join(refused)}")
    if not quiet:
        for sentence in refused:
            say(f"left out: {sentence}")
    return Codec(working, rate)
