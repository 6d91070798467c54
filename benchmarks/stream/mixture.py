"""Streams of real recordings with inserted fakes: passages of a corpus's clips, in a room, with pauses and noise.

    pause | passage: clips of one real source | pause | passage: clips of one fake system | pause | ...
    all in one room or none, over one noise floor; every passage has a level of its own

Sources and systems are drawn equally, so that none dominates; a clip is not repeated within a passage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy.trials import TrialList
from runtime.audio.decode import load
from runtime.audio.features import RATE, Samples
from train.augment.filters import convolve, shaped
from train.augment.rooms import synthetic

FAKE = 0.25  # share of passages
LENGTH = {False: (10.0, 40.0), True: (6.0, 20.0)}  # s of a real and of a fake passage, if its source has so many clips
BREATH = (0.2, 0.6)  # s between clips of a passage
PAUSE, PAUSES = 3.0, (0.5, 15.0)  # s between passages: mean of an exponential, and its limits
IN_ROOM = 0.5  # share of streams with a synthetic room
LEVEL = (-32.0, -20.0)  # dBFS of a passage
FLOOR = (-75.0, -55.0)  # dBFS of a stream's noise, which falls by 3 dB an octave
NOISE = 20  # s of noise, which are repeated
LOWEST = 20.0  # Hz, below which the noise is flat

Clips = Mapping[bool, Mapping[str, Sequence[Path]]]  # real sources, by False, and fake systems, by True


@dataclass(frozen=True)
class Turn:
    """One turn of a stream."""

    start: float  # s since the stream began
    end: float
    fake: bool
    source: str
    speech: float  # s of its clips


def by_source(trials: TrialList) -> dict[bool, dict[str, list[Path]]]:
    """Paths of real clips by source, and of fakes by system."""
    found: dict[bool, dict[str, list[Path]]] = {False: {}, True: {}}
    for trial in trials.trials:
        if trial.path is not None:
            name = trials.rows[trial.utterance]["source"] if trial.bonafide else trial.attack
            found[not trial.bonafide].setdefault(name, []).append(trial.path)
    return found


def compose(clips: Clips, seconds: float, seed: int, number: int) -> tuple[Samples, list[Turn]]:
    """Stream `number` of a seed: samples (n,) of at least so many seconds, and its passages."""
    dice = np.random.default_rng([seed, number])
    names = {fake: sorted(groups) for fake, groups in clips.items()}
    room = synthetic(RATE, dice) if dice.random() < IN_ROOM else None
    parts, passages, position = [_silence(_pause(dice))], list[Turn](), 0
    position = len(parts[0])
    while position < seconds * RATE:
        fake = bool(dice.random() < FAKE)
        source = names[fake][dice.integers(len(names[fake]))]
        sound, speech = _passage(clips[fake][source], dice.uniform(*LENGTH[fake]), dice)
        sound = sound if room is None else convolve(sound, room)
        level = 10 ** (dice.uniform(*LEVEL) / 20) / max(float(np.sqrt(np.mean(np.square(sound)))), 1e-9)
        passages.append(Turn(position / RATE, (position + len(sound)) / RATE, fake, source, speech))
        parts += [sound * np.float32(level), _silence(_pause(dice))]
        position += len(sound) + len(parts[-1])
    noise = shaped(
        dice.standard_normal(NOISE * RATE, np.float32),
        RATE,
        lambda frequency: np.maximum(frequency / LOWEST, 1) ** -0.5,
    )
    noise *= np.float32(10 ** (dice.uniform(*FLOOR) / 20) / np.sqrt(np.mean(np.square(noise))))
    return np.clip(np.concatenate(parts) + np.resize(noise, position), -1, 1).astype(np.float32), passages


def _passage(paths: Sequence[Path], seconds: float, dice: np.random.Generator) -> tuple[Samples, float]:
    """Clips in random order until the length is reached or none is left, and their seconds."""
    parts, speech = list[Samples](), 0
    for place in dice.permutation(len(paths)):
        clip = load(paths[place], RATE).samples
        parts += [clip, _silence(dice.uniform(*BREATH))]
        speech += len(clip)
        if speech >= seconds * RATE:
            break
    return np.concatenate(parts[:-1]), speech / RATE


def _pause(dice: np.random.Generator) -> float:
    return float(np.clip(dice.exponential(PAUSE), *PAUSES))


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)
