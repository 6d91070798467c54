"""How much of a difference is noise: intervals of ratios and differences, by ranks, without resampling.

    low, ratio, high = ratio_of(rounds_of_a, rounds_of_b, confidence=0.95)        # two runs: is B slower than A?
    low, ratio, high = paired_ratio(rounds_of_a, rounds_of_b)                     # rounds of one run, taken in turns
    low, difference, high = difference_of(rate_a, rate_b)                         # two intervals of one rate

The first is Hodges and Lehmann's estimate with the interval that belongs to Wilcoxon's rank-sum test: all ratios of a
round of B to a round of A, and of these the middle one and two that are as far out as chance would reach. It asks for
no shape of the noise. A run that drifts has rounds that resemble their neighbours and so tell less than their number
says: the interval is widened by what lag-1 correlation costs.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
MOST_CORRELATED = 0.9  # lag-1 correlation that is believed at most: few rounds overstate it

Interval = tuple[float, float, float]  # low, estimate, high


def ratio_of(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """B over A from the rounds of two runs; 0 and infinity are the ends where so few rounds cannot say."""
    logs = np.sort(np.subtract.outer(np.log(b), np.log(a)).ravel())
    n, m = len(a), len(b)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    spread = math.sqrt(n * m * (n + m + 1) / 12 * max(widening(a), widening(b)))
    outer = math.floor(n * m / 2 - z * spread)  # ratios that lie outside on each side, as one-based rank
    low, high = (logs[outer - 1], logs[-outer]) if outer >= 1 else (-math.inf, math.inf)
    return math.exp(low), math.exp(float(np.median(logs))), math.exp(high)


def widening(rounds: Sequence[float]) -> float:
    """By how much neighbouring rounds that resemble each other raise the variance of what is estimated from them."""
    values = np.log(rounds) - np.median(np.log(rounds))
    power = float(values @ values)
    if len(rounds) < 3 or power == 0.0:
        return 1.0
    correlation = min(max(float(values[1:] @ values[:-1]) / power, 0.0), MOST_CORRELATED)
    return (1 + correlation) / (1 - correlation)


def paired_ratio(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median of B over A round by round, between two order statistics that the sign test allows."""
    ratios = sorted(after / before for before, after in zip(a, b, strict=True))
    n = len(ratios)
    below, outer = 0.0, 0  # chance that fewer than `outer` of n ratios lie below the true median
    while (below := below + math.comb(n, outer) / 2**n) <= (1 - confidence) / 2:
        outer += 1
    low, high = (ratios[outer - 1], ratios[-outer]) if outer >= 1 else (0.0, math.inf)
    return low, float(np.median(ratios)), high


def difference_of(
    a: tuple[float, float, float], b: tuple[float, float, float], confidence: float = CONFIDENCE
) -> Interval:
    """B minus A of two independent rates, each as low, value, high at 95 % (Newcombe's hybrid of the two intervals)."""
    difference = b[1] - a[1]
    down, up = math.hypot(b[1] - b[0], a[2] - a[1]), math.hypot(b[2] - b[1], a[1] - a[0])
    return stretched((difference - down, difference, difference + up), confidence)


def stretched(interval: Interval, confidence: float) -> Interval:
    """An interval at 95 % as one at another confidence, as if what lies around its middle were two half bells."""
    low, middle, high = interval
    factor = NormalDist().inv_cdf((1 + confidence) / 2) / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return middle - factor * (middle - low), middle, middle + factor * (high - middle)
