"""Bootstrap over sources: clips of one demonstration page, package or speaker are alike, so whole sources are drawn.

    for drawn in draws(is_bonafide, sources, 1000, seed=0):      # how often each trial is in each resample
        weighted_eers(is_bonafide, drawn)                        # (resamples of this piece,)

A class from fewer than FEWEST sources is resampled by clips: two or three sources give no interval. Equal trials,
sources and seed give equal draws, so that differences between systems are paired.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from train.evaluate.bootstrap import Counts
from train.evaluate.metrics import Bools

FEWEST = 5  # sources of a class
PIECE = 1 << 20  # counts at once: bounds the memory of a large list


def draws(is_bonafide: Bools, sources: NDArray[np.str_] | None, resamples: int, seed: int) -> Iterator[Counts]:
    """Yield pieces of (resamples, trials); resamples that lack a class which the trials have are left out.

    `sources`: None resamples clips within each class.
    """
    rng, strata = np.random.default_rng(seed), _strata(is_bonafide, sources)
    size = max(1, PIECE // max(1, is_bonafide.size))
    for start in range(0, resamples, size):
        drawn = np.zeros((min(size, resamples - start), is_bonafide.size), np.int64)
        for places, unit, count in strata:
            drawn[:, places] = rng.multinomial(count, np.full(count, 1 / count), len(drawn))[:, unit]
        for mine in (is_bonafide, ~is_bonafide):
            drawn = drawn[drawn[:, mine].any(axis=1)] if mine.any() else drawn
        yield drawn


def _strata(
    is_bonafide: Bools, sources: NDArray[np.str_] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Trials that are drawn together: their places, the unit of each, and the number of units."""
    by_clip, joint = list[NDArray[np.int64]](), np.zeros(is_bonafide.size, bool)
    for mine in (is_bonafide, ~is_bonafide):
        if sources is not None and len(set(sources[mine].tolist())) >= FEWEST:
            joint |= mine
        elif mine.any():
            by_clip.append(np.flatnonzero(mine))
    found = [(places, np.arange(places.size), places.size) for places in by_clip]
    if sources is not None and joint.any():
        names, unit = np.unique(sources[joint], return_inverse=True)
        found.append((np.flatnonzero(joint), unit, len(names)))
    return found
