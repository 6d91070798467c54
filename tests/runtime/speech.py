"""Speech for tests of verdicts: a synthetic voice, which the voice activity detector takes for speech."""

from functools import cache

import numpy as np

from runtime.audio.features import RATE, Samples
from tests.runtime.made_voice import voice


@cache
def _demo() -> Samples:
    return voice(RATE)


def speech(seconds: float, seed: int = 0) -> Samples:
    """The synthetic voice, repeated, from another place and in another noise for each seed."""
    count, rng = int(seconds * RATE), np.random.default_rng(seed)
    sound = np.roll(_demo(), -seed * RATE // 2)
    return (np.resize(sound, count) + 1e-3 * rng.standard_normal(count)).astype(np.float32)
