"""Ring buffer of the newest 600 frames, always one contiguous array.

    ring = RingBuffer(bands=45)
    ring.push(frames)                        # (n, 45), any n
    engine(ring.view[None, None])            # (1, 1, 45, 600) float32, C-contiguous

Rows lie one after the other in one long buffer, 600 values each. Moving the base by one value drops the oldest frame of
every row, and the next row's oldest value becomes the newest of the row before: only these values are written.

    buffer   . [a1 a2 a3 b1 b2 b3 c1 c2 c3] .  .        bands a, b, c; frames 1 to 3
    push 4   .  . [a2 a3 a4 b2 b3 b4 c2 c3 c4] .        one value written per band

When the base reaches the buffer's end the rows move back to its start: one copy in SLACK frames (39 s).
"""

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import WINDOW_FRAMES, Frames

SLACK = 8 * WINDOW_FRAMES  # values that the base can move before the rows move back: 19 KB


class RingBuffer:
    """Sliding window over frames; `view` is valid until the next push."""

    def __init__(self, bands: int, width: int = WINDOW_FRAMES, slack: int = SLACK) -> None:
        self.bands, self.width, self._slack = bands, width, max(slack, width)
        self._buffer = np.zeros(bands * width + self._slack, np.float32)
        self._partial = np.zeros((bands, width), np.float32)  # a window that is not full yet, its frames repeated
        self.reset()

    def reset(self) -> None:
        """Drop all frames, as after a gap."""
        self.count = 0  # frames since then
        self._base = 0

    @property
    def full(self) -> bool:
        return self.count >= self.width

    def push(self, frames: Frames) -> None:
        """Append new frames (n, bands); of more than `width` the last ones."""
        self.count += len(frames)
        frames = frames[-self.width :]
        if self._base + len(frames) > self._slack:
            size = self.bands * self.width
            self._buffer[:size] = self._buffer[self._base : self._base + size]
            self._base = 0
        self._base += len(frames)
        self._rows()[:, self.width - len(frames) :] = frames.T

    @property
    def view(self) -> NDArray[np.float32]:
        """(bands, width), oldest frame first. Before it is full its frames repeat, as those of short clips do."""
        if self.full:
            return self._rows()
        if not self.count:
            raise ValueError("the ring buffer is empty: push frames first")
        newest = self._rows()[:, self.width - self.count :]
        np.take(newest, np.arange(self.width) % self.count, axis=1, out=self._partial)
        return self._partial

    def _rows(self) -> NDArray[np.float32]:
        return self._buffer[self._base : self._base + self.bands * self.width].reshape(self.bands, self.width)
