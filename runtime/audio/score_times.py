"""Where the scores of a streaming network fall: behind every step of frames, from one second on.

    frames   0 ....... 112 ... 128 ... 144 ....................... 592 .. 600
             nothing    | a score behind every 16 frames            |
                        first (f0)                                  the score of a clip with 600 frames or more

A clip's score is that of its last whole step within the first window: a stream gives the very same number at that
frame, and nothing is repeated. Only a clip that ends before the first score repeats its frames up to there.
"""

import math

from runtime.audio.features import FrontEnd

STEP = 16  # frames, 130 ms: what all our networks' strides in time (8 and 16) divide
EARLIEST = 1.0  # s of sound before the first score: for windows less would be mostly repetition


def first(frontend: FrontEnd, step: int = STEP) -> int:
    """Frames before the first score: whole steps that cover one second."""
    frames = math.ceil((EARLIEST * frontend.rate - frontend.window) / frontend.hop) + 1
    return -(-max(1, frames) // step) * step


def scored(frames: int, frontend: FrontEnd, step: int = STEP) -> int:
    """Of a clip with that many frames, behind which frame its score is taken."""
    return max(first(frontend, step), min(frames, frontend.width) // step * step)
