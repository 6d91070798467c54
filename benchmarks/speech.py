"""Sound to stream: clips of a corpus, or a voice that code makes, so that a device needs no corpus to be measured.

    samples = voice(60.0, seed=1)               # (960000,) float32 at 16 kHz
    samples = clips(Path("/data/LA"), 60.0)

The voice is a source and a filter: harmonics of a wandering pitch under three formants that move from vowel to vowel,
in phrases with pauses and a little room noise. It is no test of accuracy; level, pauses and bands are those of speech,
so that every part of the runtime has its usual work.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import RATE, Samples

VOWELS = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)])
# Hz of three formants each, of men (Peterson and Barney 1952)
BANDWIDTH = np.array([80.0, 110.0, 160.0])  # Hz
SYLLABLE = 0.2  # s
PHRASE, PAUSE = (1.5, 4.0), (0.3, 1.0)  # s
HIGHEST = 4000.0  # Hz; harmonics above carry little
SPEECH, ROOM = 0.05, 0.0005  # full scale is 1: -26 dB of speech, -66 dB of noise
GAP = 0.4  # s between clips of a corpus


def voice(seconds: float, seed: int = 0) -> Samples:
    """Phrases and pauses, (seconds * RATE,)."""
    rng = np.random.default_rng(seed)
    parts: list[NDArray[np.float64]] = []
    wanted = round(seconds * RATE)
    while sum(map(len, parts)) < wanted:
        parts += [_phrase(rng, rng.uniform(*PHRASE)), np.zeros(int(rng.uniform(*PAUSE) * RATE))]
    sound = np.concatenate(parts)[:wanted]
    return (sound + ROOM * rng.standard_normal(wanted)).astype(np.float32)


def _phrase(rng: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    time = np.arange(int(seconds * RATE)) / RATE
    sway = 1 + 0.08 * np.sin(2 * np.pi * rng.uniform(1, 3) * time + rng.uniform(0, 6)) - 0.1 * time / seconds
    pitch = rng.uniform(90, 210) * sway  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    syllables = np.arange(0, seconds + SYLLABLE, SYLLABLE)
    vowels = VOWELS[rng.integers(len(VOWELS), size=len(syllables))]
    formants = [np.interp(time, syllables, vowels[:, place]) for place in range(3)]
    sound = np.zeros(len(time))
    for number in range(1, int(HIGHEST / pitch.max()) + 1):
        envelope = sum(
            1 / (1 + ((number * pitch - formant) / width) ** 2)
            for formant, width in zip(formants, BANDWIDTH, strict=True)
        )
        sound += envelope / number**0.5 * np.sin(number * phase)
    loudness = 0.55 - 0.45 * np.cos(2 * np.pi * time / SYLLABLE)
    edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)  # no click at its ends
    sound *= loudness * edge
    return SPEECH * sound / np.sqrt(np.mean(sound**2))


def clips(corpus: Path, seconds: float, seed: int = 0) -> Samples:
    """Development clips of a corpus in random order, with pauses; again from the start where they do not suffice."""
    from runtime.audio.decode import load
    from train.data.corpus import open_corpus

    trials = open_corpus(corpus, "dev").trials
    order = np.random.default_rng(seed).permutation(len(trials))
    parts: list[Samples] = []
    wanted, held = round(seconds * RATE), 0
    for place in order:
        path = trials[place].path
        assert path is not None
        parts += [load(path, RATE).samples, np.zeros(int(GAP * RATE), np.float32)]
        held += len(parts[-2]) + len(parts[-1])
        if held >= wanted:
            break
    return np.resize(np.concatenate(parts), wanted)


def as_pcm(samples: Samples) -> bytes:
    """Raw s16le, as arecord writes it."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
