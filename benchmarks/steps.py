"""The parts of one step of a stream, as things to time: 12 frames of sound in, one score out.

    part = features_part(frontend)                 # samples -> frames -> window; no network
    part = network_part(engine, frontend, batch)   # window -> logits
    part = step_part(engine, frontend)             # runtime.scorer's own object: all of it, as a stream does it
    part()                                         # one step

A network that remembers takes its own number of new frames a step, and its states go in and out with every call.

The window is full from the first call on: a step is what it costs after five seconds, and for the rest of the day.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FeatureStream, FrontEnd, Samples
from runtime.audio.framer import STEP
from runtime.audio.ring_buffer import RingBuffer
from runtime.engines import Engine, as_streaming
from runtime.scorer import StreamScorer

SECONDS = 20.0  # of sound that the parts hear again and again
SYLLABLES = 4.0  # Hz in which it grows louder and softer, as speech does
LEVEL = 0.05  # of full scale

Part = Callable[[], object]


class Sound:
    """Endless sound by chance, cut where scores fall due."""

    def __init__(self, frontend: FrontEnd, frames: int = STEP, whole: bool = False) -> None:
        """`frames` a step; `whole`: steps count from the first frame on, not back from a full window."""
        time = np.arange(int(SECONDS * frontend.rate)) / frontend.rate
        noise = np.random.default_rng(0).standard_normal(len(time))
        loudness = 1 + np.sin(2 * np.pi * SYLLABLES * time)
        self._samples: Samples = (LEVEL * loudness * noise).astype(np.float32)
        self._chunk, self._at = frames * frontend.hop, 0
        full = frontend.width // frames * frames if whole else frontend.width
        self.first = self._take((full - 1) * frontend.hop + frontend.window)  # samples that fill a window

    def next(self) -> Samples:
        """The samples of one more step."""
        return self._take(self._chunk)

    def _take(self, count: int) -> Samples:
        if self._at + count > len(self._samples):
            self._at = 0
        self._at += count
        return self._samples[self._at - count : self._at]


def features_part(frontend: FrontEnd) -> Part:
    """What a step costs before the network."""
    sound, stream = Sound(frontend), FeatureStream(frontend)
    window = RingBuffer(frontend.bands, frontend.width)
    window.push(stream.push(sound.first))

    def step() -> NDArray[np.float32]:
        window.push(stream.push(sound.next()))
        return window.view

    return step


def network_part(engine: Engine, frontend: FrontEnd, batch: int = 1) -> Part:
    """The engine's call on real features; a step of one that remembers, for so many streams."""
    if (remembers := as_streaming(engine)) is not None:
        buffers = remembers.batch_buffers(batch)
        buffers.features[:] = windows(frontend, batch)[..., : remembers.state.frames]
        return partial(buffers.run, batch)
    return partial(engine, windows(frontend, batch))


def step_part(engine: Engine, frontend: FrontEnd) -> Part:
    """StreamScorer from samples to one score."""
    remembers = as_streaming(engine)
    frames = remembers.state.frames if remembers else STEP
    sound, scorer = Sound(frontend, frames, remembers is not None), StreamScorer(engine, frontend)
    scorer.push(sound.first)

    def step() -> float:
        (score,) = scorer.push(sound.next())
        return score.value

    return step


def windows(frontend: FrontEnd, batch: int) -> NDArray[np.float32]:
    """Neighbouring windows of the same sound, (batch, 1, bands, frames)."""
    part = features_part(frontend)
    return np.stack([np.array(part()) for _ in range(batch)])[:, None]
