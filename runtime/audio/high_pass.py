"""The high-pass in front of every spectrum: a DC blocker of one pole at 20 Hz, in float64.

    high_pass = HighPass(16_000)
    filtered = high_pass.push(samples)          # any chunk size; the same values, bit for bit

    y[n] = x[n] - x[n-1] + a y[n-1],   a = exp(-2 pi 20 / rate),   x[-1] = x[0],   y[-1] = 0

The state starts with the first sample, so a constant input gives zero from sample 0 on.

The recursion runs in blocks that are aligned to the stream's start. Within a block it is a cumulative sum of
(x[n] - x[n-1]) / a^k, times a^k; between blocks one number is carried. Chunks only cut that sum in two, which never
changes the order of its additions.
"""

import math
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CORNER = 20.0  # Hz, -3 dB: a voice starts at 50 Hz
BLOCK = 512  # samples; a^-512 = 56 at 16 kHz, so the sum loses two of float64's sixteen digits


def pole(rate: int) -> float:
    """The filter's `a` at a sample rate in Hz."""
    return math.exp(-2 * math.pi * CORNER / rate)


class Powers(NamedTuple):
    """Powers of `a` along a block, (BLOCK,); all streams share them."""

    rise: NDArray[np.float64]  # a^-k
    fall: NDArray[np.float64]  # a^k
    carried: NDArray[np.float64]  # a^(k+1), from the end of the block before
    over: float  # a^BLOCK, from one block's end to the next one's


@lru_cache
def powers(rate: int) -> Powers:
    a, k = pole(rate), np.arange(BLOCK, dtype=np.float64)
    carried = a ** (k + 1)
    return Powers(a**-k, a**k, carried, float(carried[-1]))


class HighPass:
    """One stream's filter and its state."""

    def __init__(self, rate: int) -> None:
        self._powers = powers(rate)
        self.reset()

    def reset(self) -> None:
        """Start anew with the next sample."""
        self._last: float | None = None  # x[n-1]
        self._at = 0  # samples of the unfinished block
        self._sum = 0.0  # its cumulative sum
        self._carry = 0.0  # y at the end of the block before it

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,) -> (n,), any n."""
        count, at = len(samples), self._at
        if not count:
            return np.empty(0)
        joined = np.empty(count + 1)  # one sample of the past before the new ones
        joined[1:] = samples
        joined[0] = joined[1] if self._last is None else self._last
        sums = np.zeros((-(-(at + count) // BLOCK), BLOCK))
        np.subtract(joined[1:], joined[:-1], out=sums.reshape(-1)[at : at + count])
        sums *= self._powers.rise
        if at:
            sums[0, at - 1] = self._sum
        np.add.accumulate(sums, axis=1, out=sums)
        end = (at + count) % BLOCK
        self._last, self._at, self._sum = float(joined[-1]), end, float(sums[-1, end - 1]) if end else 0.0
        ends = (sums[:, -1] * self._powers.fall[-1]).tolist()
        carries = list(accumulate(ends, lambda carry, new: self._powers.over * carry + new, initial=self._carry))
        self._carry = carries[-2] if end else carries[-1]
        sums *= self._powers.fall
        sums += np.array(carries[:-1])[:, None] * self._powers.carried
        return sums.reshape(-1)[at : at + count]
