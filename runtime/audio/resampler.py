"""Whatever a device delivers as mono float32 at the model's rate: by the rules of runtime.audio.decode, but as a stream.

    intake = Resampler(48_000, 16_000)
    samples, invalid = intake.push(block)        # (n, channels) float32 -> (m,) float32

Channels are averaged, then one soxr stream resamples from block to block; never each block by itself, which would
click at every seam. A device may deliver anything, so that NaN, infinities and absurd values end here.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples
from runtime.audio.framer import LARGEST


class Resampler:
    """Keeps the resampler's few milliseconds between blocks."""

    def __init__(self, rate: int, wanted: int) -> None:
        self.rate, self.wanted = rate, wanted
        self.reset()

    def reset(self) -> None:
        """After a hole the resampler may not join what does not belong together."""
        self._resampler: Any = None
        if self.rate != self.wanted:
            import soxr

            self._resampler = soxr.ResampleStream(self.rate, self.wanted, 1, dtype="float32", quality="HQ")

    def push(self, block: NDArray[np.float32]) -> tuple[Samples, int]:
        """(n, channels) -> samples (m,), and how many of the n x channels values were no numbers."""
        finite = np.isfinite(block)
        invalid = block.size - int(np.count_nonzero(finite))
        if invalid:
            block = np.where(finite, block, np.float32(0))
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64)
        mono = np.clip(mono, -LARGEST, LARGEST).astype(np.float32)
        return (mono if self._resampler is None else self._resampler.resample_chunk(mono)), invalid

    def flush(self) -> Samples:
        """The last samples, which the resampler still holds."""
        empty = np.empty(0, np.float32)
        if self._resampler is None:
            return empty
        rest: Samples = self._resampler.resample_chunk(empty, last=True)
        self.reset()
        return rest
