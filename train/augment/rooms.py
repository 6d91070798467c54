"""Rooms: measured impulse responses from a folder, or synthetic ones that decay exponentially (Polack, 1988).

A response begins with its direct sound, its loudest sample: so nothing is delayed and frames stay where they were. Its
energy is 1, so that a room does not change the level by much, and it ends where 60 dB have gone, at the latest after
LONGEST.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from runtime.audio.features import Samples
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.augment.filters import Dice, convolve

LONGEST = 1.0  # s of a response
GONE = 1e-6  # of the energy: -60 dB
MOST = 1000  # responses that are held, 64 MB at most; larger folders are thinned evenly

# Synthetic rooms: from a car to a hall; the direct sound from as loud as the room to well above it.
REVERBERATION = (0.1, 0.8)  # s until 60 dB have gone (T60)
DIRECT = (0.0, 15.0)  # dB, direct to reverberant
FIRST_REFLECTION = (0.001, 0.02)  # s after the direct sound: 0.3 to 7 m of detour


@dataclass(frozen=True)
class Room:
    """A response is drawn for every window; without any, a synthetic one is made."""

    responses: tuple[NDArray[np.float32], ...]
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        if self.responses:
            return convolve(sound, self.responses[dice.integers(len(self.responses))])
        return convolve(sound, synthetic(self.rate, dice))


def synthetic(rate: int, dice: Dice) -> NDArray[np.float32]:
    """Direct sound, a gap, and white noise that decays: (samples,)."""
    decay, direct, gap = dice.uniform(*REVERBERATION), dice.uniform(*DIRECT), dice.uniform(*FIRST_REFLECTION)
    time = np.arange(int(rate * min(LONGEST, gap + decay))) / rate
    tail = dice.standard_normal(len(time)) * 10 ** (-3 * time / decay) * (time >= gap)
    tail *= 10 ** (-direct / 20) / max(float(np.linalg.norm(tail)), 1e-20)
    tail[0] = 1.0
    return prepared(tail, rate)


def prepared(response: NDArray[Any], rate: int) -> NDArray[np.float32]:
    """From the direct sound to where 60 dB have gone, with energy 1: (samples,) -> (fewer,)."""
    response = response[int(np.abs(response).argmax()) :][: int(LONGEST * rate)].astype(np.float64)
    left = np.cumsum(np.square(response)[::-1])[::-1]
    response = response[: max(1, int(np.count_nonzero(left > GONE * left[0])))]
    return (response / np.linalg.norm(response)).astype(np.float32)


def load_rooms(folder: Path, rate: int) -> tuple[tuple[NDArray[np.float32], ...], list[str]]:
    """Every channel of every sound file below a folder, and a sentence for each file that could not be used."""
    if not folder.is_dir():
        raise ShrikeError(f"--rir {folder}: a folder of impulse responses, or synthetic, was expected{nearby(folder)}")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if len(paths) > MOST:
        paths = [paths[number] for number in np.linspace(0, len(paths) - 1, MOST).astype(int)]
    responses: list[NDArray[np.float32]] = []
    refused: list[str] = []
    for path in paths:
        try:
            channels, recorded = soundfile.read(path, dtype="float64", always_2d=True)
        except (soundfile.LibsndfileError, TypeError, OSError) as error:
            refused.append(f"{path.name} is no sound file ({str(error).strip().rpartition(': ')[2].rstrip('.')})")
            continue
        if not np.isfinite(channels).all() or not channels.any():
            refused.append(f"{path.name} is silent or not finite")
            continue
        for channel in channels.T[channels.any(axis=0)]:
            responses.append(prepared(soxr.resample(channel, recorded, rate, "HQ"), rate))
    if not responses:
        why = f": {refused[0]}" if refused else ""
        raise ShrikeError(
            f"--rir {folder}: no impulse response could be read there, WAV or FLAC files were expected{why}"
        )
    return tuple(responses[:MOST]), refused
