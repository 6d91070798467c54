"""Samples in, scores out: the only place where front-end, window and engine meet.

    scorer = StreamScorer(engine, card.frontend)
    for score in scorer.push(samples):           # any number of samples, also none
        print(score.time, score.value)           # bona fide minus spoof of the last 600 frames

A score is due whenever the number of frames is a multiple of `step` away from a full window, so that one always falls
on the first 600 frames: the score that offline evaluation gives a clip. Before that the frames that exist are repeated,
as offline evaluation repeats those of a short clip, and the score is marked `warming`.

    frames   0 ........ 111 ................. 600 ... 612 ... 624
             nothing    | warming, repeated   | the offline score, then every 12 frames
"""

import math
from dataclasses import dataclass

import numpy as np

from runtime.engines import Engine
from runtime.errors import ShrikeError
from runtime.features import FeatureStream, FrontEnd, Samples
from runtime.window import FeatureWindow

STEP = 12  # frames between scores: 12 x 130 samples = 97.5 ms
EARLIEST = 1.0  # s of sound before the first score: less is mostly repetition
SPLICED = 0.25  # s; over a shorter hole the window is kept, over a longer one it starts again
LARGEST = 1e4  # full scale is 1: 80 dB above it lies no sound, and its power still fits into float32
PIECE = 16_000  # samples processed at once: bounds the memory of a long push


@dataclass(frozen=True)
class Score:
    """What the network said about the window that ended at `time`."""

    time: float  # s since the stream began, of the newest sample in the window
    value: float  # logit(bona fide) - logit(spoof)
    frames: int  # in the window, at most 600
    warming: bool  # fewer than a window's: they were repeated


class StreamScorer:
    """Any chunking of the same samples gives the same scores, bit for bit. Keeps one window and no more."""

    def __init__(self, engine: Engine, frontend: FrontEnd, step: int = STEP) -> None:
        if not 1 <= step <= frontend.width:
            raise ShrikeError(f"step {step}: 1 to {frontend.width} frames were expected")
        self.frontend, self.step = frontend, step
        self._engine = engine
        self._stream = FeatureStream(frontend)
        self._window = FeatureWindow(frontend.bands, frontend.width)
        self._earliest = max(1, math.ceil((EARLIEST * frontend.rate - frontend.window) / frontend.hop) + 1)
        self.heard = 0  # samples since the stream began, those in holes included
        self.reset()

    @property
    def interval(self) -> float:
        """Seconds between scores."""
        return self.step * self.frontend.hop / self.frontend.rate

    @property
    def until_due(self) -> int:
        """Samples until the next score: whoever pushes no more than these gets at most one, exactly when it is due."""
        frames = self._until_due()
        if self._window.count + frames < self._earliest:
            return self.step * self.frontend.hop
        return self._origin + (self._frames + frames - 1) * self.frontend.hop + self.frontend.window - self.heard

    def _until_due(self) -> int:
        return self.step - (self._window.count - self.frontend.width) % self.step

    def reset(self) -> None:
        """Begin a new window here; time goes on."""
        self._window.reset()
        self._cut()

    def skip(self, samples: int) -> bool:
        """A hole of that many samples: no frame spans it. True if the window had to begin again."""
        self.heard += samples
        begins_again = samples > SPLICED * self.frontend.rate
        if begins_again:
            self.reset()
        else:
            self._cut()
        return begins_again

    def push(self, samples: Samples) -> list[Score]:
        """New samples (n,), full scale 1 -> the scores they complete. Too loud is cut; what is no number is refused."""
        samples = self._checked(samples)
        scores: list[Score] = []
        for start in range(0, len(samples), PIECE):
            piece = np.clip(samples[start : start + PIECE], -LARGEST, LARGEST).astype(np.float32, copy=False)
            self.heard += len(piece)
            self._push_frames(self._stream.push(piece), scores)
        return scores

    def finish(self) -> list[Score]:
        """The end: a clip shorter than a window gets the score of all its frames, as offline evaluation gives it."""
        if self._window.full or self._window.count in (0, self._scored):
            return []
        return [self._score()]

    @staticmethod
    def _checked(samples: Samples) -> Samples:
        """Sources promise all of this; whoever feeds a scorer of his own learns here what he got wrong."""
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ShrikeError(
                f"samples {samples.shape} of {samples.dtype} came; (n,) floats with full scale 1 were expected: "
                "runtime.sources.intake.Intake averages channels"
            )
        if np.isnan(samples).any():
            raise ShrikeError("samples that are no numbers came; runtime.sources.intake.Intake makes silence of them")
        return samples

    def _push_frames(self, frames: Samples, scores: list[Score]) -> None:
        while len(frames):
            until_due = self._until_due()
            new, frames = frames[:until_due], frames[until_due:]
            self._window.push(new)
            self._frames += len(new)
            if len(new) == until_due and self._window.count >= self._earliest:
                scores.append(self._score())

    def _score(self) -> Score:
        window = self._window
        self._scored = window.count
        spoof, bonafide = self._engine(window.view[None, None])[0]
        value = float(bonafide) - float(spoof)
        if not math.isfinite(value):
            raise ShrikeError(f"the model {self._engine.name} gives a score that is not finite; export it again")
        newest = self._origin + (self._frames - 1) * self.frontend.hop + self.frontend.window
        return Score(newest / self.frontend.rate, value, min(window.count, window.width), not window.full)

    def _cut(self) -> None:
        self._stream.reset()
        self._origin = self.heard  # where the stream of frames begins
        self._frames = 0  # since there
        self._scored = 0  # frames in the window at its last score
