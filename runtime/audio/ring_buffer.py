"""Buffer of the newest 600 frames, always one contiguous array.

ring = RingBuffer(bands=45)
ring.push(frames)                        # (n, 45), any n
engine(ring.view[None, None])            # (1, 1, 45, 600) float32, C-contiguous
"""

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import WINDOW_FRAMES, Frames, fill


class RingBuffer:
    """Sliding window over frames; `view` is valid until the next push."""

    def __init__(self, bands: int, width: int = WINDOW_FRAMES) -> None:
        self.width = width
        self._newest = np.zeros((bands, width), np.float32)  # oldest frame first; a push moves it by 10 us
        self.reset()

    def reset(self) -> None:
        """Drop all frames, as after a gap."""
        self.count = 0  # frames since then

    @property
    def full(self) -> bool:
        return self.count >= self.width

    def push(self, frames: Frames) -> None:
        """Append new frames (n, bands); of more than `width` the last ones."""
        self.count += len(frames)
        frames = frames[-self.width :]
        left = self.width - len(frames)
        self._newest[:, :left] = self._newest[:, len(frames) :]
        self._newest[:, left:] = frames.T

    @property
    def view(self) -> NDArray[np.float32]:
        """(bands, width), oldest frame first. Before it is full its frames repeat, as those of short clips do."""
        if self.full:
            return self._newest
        if not self.count:
            raise ValueError("the ring buffer is empty: push frames first")
        return np.ascontiguousarray(fill(self._newest[:, -self.count :].T, self.width).T)
