"""Resample a stream of blocks to mono float32 at the model's rate.

    resampler = Resampler(48_000, 16_000, channel="mix")
    samples, invalid = resampler.push(block)     # (n, channels) float32 -> (m,) float32

One channel is chosen, or all are averaged; then one soxr stream resamples from block to block; resampling each block by
itself would click at every seam. NaN, infinite and absurd values of a device end here.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.channels import MIX, AntiphaseMeter, mono
from runtime.audio.features import Samples
from runtime.audio.framer import LARGEST


class Resampler:
    """Holds soxr's few milliseconds between blocks."""

    def __init__(self, rate: int, wanted: int, channel: str = MIX) -> None:
        self.rate, self.wanted, self.channel = rate, wanted, channel
        self.reset()

    def reset(self) -> None:
        """Start anew after a gap, so that sound before and after it is not joined."""
        self._meter = AntiphaseMeter(self.rate)
        self._stream: Any = None
        if self.rate != self.wanted:
            import soxr

            self._stream = soxr.ResampleStream(self.rate, self.wanted, 1, dtype="float32", quality="HQ")

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the newest block: `antiphase` while the mix of two channels cancels."""
        return ("antiphase",) if self._meter.present else ()

    def push(self, block: NDArray[np.float32]) -> tuple[Samples, int]:
        """(n, channels) -> samples (m,), and how many of the n x channels values were NaN or infinite."""
        finite = np.isfinite(block)
        invalid = block.size - int(np.count_nonzero(finite))
        if invalid:
            block = np.where(finite, block, np.float32(0))
        if self.channel == MIX and block.shape[1] == 2:
            self._meter.push(block)
        samples = np.clip(mono(block, self.channel), -LARGEST, LARGEST).astype(np.float32)
        return (samples if self._stream is None else self._stream.resample_chunk(samples)), invalid

    def flush(self) -> Samples:
        """Return the last samples, which soxr still holds, and start anew."""
        empty = np.empty(0, np.float32)
        if self._stream is None:
            return empty
        rest: Samples = self._stream.resample_chunk(empty, last=True)
        self.reset()
        return rest
