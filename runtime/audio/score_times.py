"""Frames after which a streaming model's scores are taken: after every step, from one second on.

    frames   0 ....... 112 ... 128 ... 144 ....................... 592 .. 600
             no score   | a score after every 16 frames             |
                        first (f0)                                  score of a clip with 600 frames or more

A clip's score is that of its last whole step within the first window: a stream gives the same number at that frame,
and no frame is repeated. Only a clip that ends before the first score repeats its frames up to there.
"""

import math

from runtime.audio.features import FrontEnd

STEP = 16  # frames, 130 ms: divisible by the time strides of all our networks, 8 and 16
EARLIEST = 1.0  # s of sound before the first score: a window of less would be mostly repetition


def first(frontend: FrontEnd, step: int = STEP) -> int:
    """Frames before the first score: whole steps that cover one second."""
    frames = math.ceil((EARLIEST * frontend.rate - frontend.window) / frontend.hop) + 1
    return -(-max(1, frames) // step) * step


def scored(frames: int, frontend: FrontEnd, step: int = STEP) -> int:
    """Return after how many frames the score of a clip with `frames` frames is taken."""
    return max(first(frontend, step), min(frames, frontend.width) // step * step)
