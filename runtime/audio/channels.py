"""Channels of a recording: which of them are judged, and how they become one.

    plan("call.wav", None)                      # ("left", "right") if the two differ, else ("mix",)
    mono(block, "left")                         # (n, channels) -> (n,)

The mix hides a fake that is in antiphase in the two channels, and dilutes one that is in one of them. So a file of two
channels that differ is judged channel by channel, and the worst verdict counts. Channels are the same where the power
of their difference stays 30 dB below theirs. Of a long file that is checked for its first minute, and for 60 seconds
spread over the rest; a difference that is missed there is still in the mix.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Literal, Union, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.audio.framer import LARGEST
from runtime.support.errors import AudioError, ShrikeError, printable

if TYPE_CHECKING:
    import soundfile

    from runtime.audio.ffmpeg import FfmpegSound

Channel = Literal["left", "right", "mix", "each"]
LEFT, RIGHT, MIX, EACH = get_args(Channel)
NAMES = (LEFT, RIGHT)  # the others have numbers: 3, 4, ...

SAME = 1e-3  # power of the difference against the louder channel, -30 dB: AAC at 128 and Opus at 32 kbit/s stay below
NEAR_SILENCE = 1e-7  # power, -70 dBFS: below it two converters' noise differs
FIRST, SPOTS = 60, 60  # s of a file that are compared: at its start, and spread over the rest

UNIT = 0.1  # s over which correlation is measured at a time
MEMORY = 10  # units, time constant of the running correlation: 1 s
LOUD = 1e-6  # power, -60 dBFS: quieter units hold no voice
LOUD_UNITS = 10  # of these before antiphase is reported: 1 s
OPPOSITE = -0.9  # correlation below which two channels are in antiphase
SIMILAR = 4.0  # ratio of powers, 6 dB, up to which the levels are similar

Block = NDArray[np.float32]  # (n, channels)


def mono(block: Block, channel: str) -> NDArray[np.floating]:
    """Reduce (n, channels) to (n,): one channel, or the mean of all. A mono block is its only channel."""
    count = block.shape[1]
    if count == 1:
        return block[:, 0]
    if channel == MIX:
        # In float64, because the sum of two huge floats would overflow where their mean does not.
        return block.mean(axis=1, dtype=np.float64)
    check_channel(channel, count)
    return block[:, names(count).index(channel)]


def names(count: int) -> tuple[str, ...]:
    """Name the channels: left, right, 3, 4, ..."""
    return tuple(NAMES[number] if number < len(NAMES) else str(number + 1) for number in range(count))


def check_channel(channel: str, count: int) -> None:
    """Raise if sound of so many channels has no such channel; mono sound has every one."""
    if count > 1 and channel != MIX and channel not in names(count):
        raise ShrikeError(f"channel {channel}: expected {MIX} or one of {', '.join(names(count))}")


def plan(path: str | os.PathLike[str], wanted: str | None = None) -> tuple[str, ...]:
    """Return the channels of a file that are to be judged, each on its own.

    `wanted`: left, right, mix or each; None is each for two channels that differ, and mix otherwise.
    """
    if wanted == MIX:
        return (MIX,)
    from runtime.audio.ffmpeg import open_file

    try:
        with closing(open_file(path)) as sound:
            return _choose(sound.channels, wanted, _seconds(sound))
    except AudioError as error:
        raise ShrikeError(f"{printable(os.fspath(path))}: {error}") from error


def plan_samples(samples: Block, rate: int, wanted: str | None = None) -> tuple[str, ...]:
    """Return the same for an array (n, channels)."""
    count = samples.shape[1]
    if wanted is not None and wanted != EACH:
        check_channel(wanted, count)
    return _choose(count, wanted, (samples[start : start + rate] for start in range(0, len(samples), rate)))


def _choose(count: int, wanted: str | None, seconds: Iterator[Block]) -> tuple[str, ...]:
    if wanted == MIX or count == 1:
        return (MIX,)
    if wanted is None:
        return NAMES if count == 2 and any(map(differ, seconds)) else (MIX,)
    return names(count) if wanted == EACH else (wanted,)


def differ(block: Block) -> bool:
    """True if the two channels of (n, 2) are not the same sound."""
    if not len(block):
        return False
    pair = np.clip(np.nan_to_num(block), -LARGEST, LARGEST).astype(np.float64)
    difference = float(np.mean((pair[:, 0] - pair[:, 1]) ** 2))
    return difference > max(NEAR_SILENCE, SAME * float(np.mean(pair**2, axis=0).max()))


def _seconds(sound: Union["soundfile.SoundFile", "FfmpegSound"]) -> Iterator[Block]:
    """Read the seconds that are compared, as far as the sound can be decoded."""
    from runtime.audio.decode import decoding
    from runtime.audio.ffmpeg import FfmpegSound

    rate = sound.samplerate
    starts: list[int | None] = [None] * FIRST
    if not isinstance(sound, FfmpegSound) and sound.frames > (FIRST + 1) * rate:
        spots = min(SPOTS, sound.frames // rate - FIRST)
        starts += np.linspace(FIRST * rate, sound.frames - rate, spots).astype(int).tolist()
    with suppress(AudioError), decoding():
        for start in starts:
            if start is not None and not isinstance(sound, FfmpegSound):
                sound.seek(start)
            block = sound.read(rate, dtype="float32", always_2d=True)
            if not len(block):
                return
            yield block


class AntiphaseMeter:
    """Tells whether two channels cancel in their mix: similar levels, and a strong negative correlation."""

    def __init__(self, rate: int) -> None:
        self._unit = max(1, round(UNIT * rate))  # frames
        self._count, self._sums = 0, np.zeros(3)  # of the unfinished unit: left power, right power, product
        self._means, self._loud = np.zeros(3), 0

    def push(self, block: Block) -> None:
        """Measure new frames (n, 2)."""
        start = 0
        while start < len(block):
            left, right = block[start : start + self._unit - self._count].T.astype(np.float64)
            self._sums += left @ left, right @ right, left @ right
            start, self._count = start + len(left), self._count + len(left)
            if self._count == self._unit:
                means = self._sums / self._unit
                self._loud = min(self._loud + int(means[:2].max() > LOUD), LOUD_UNITS)
                self._means += (means - self._means) / MEMORY
                self._count, self._sums = 0, np.zeros(3)

    @property
    def present(self) -> bool:
        """True while the channels are in antiphase."""
        left, right, product = self._means
        if self._loud < LOUD_UNITS or max(left, right) < LOUD or max(left, right) > SIMILAR * min(left, right):
            return False
        return bool(product < OPPOSITE * np.sqrt(left * right))
