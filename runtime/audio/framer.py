"""Framers: buffer the samples of one stream, yield a model's inputs when they are due, and turn logits into scores.

    framer = WindowFramer(card.frontend)                   # windowed model: the newest 600 frames
    framer = StepFramer(card.frontend, frames=16)          # streaming model: 16 new frames
    framer.accept(samples)                                 # any number of samples
    while framer.ready:
        score = framer.score(engine(framer.next()))        # (1, 1, bands, frames); None where a step gives no score

Windowed and streaming models differ here and nowhere else. Scores are due `step` frames apart, so that one falls on the
first 600 frames: the score of offline evaluation. Before that a window repeats its frames, as offline evaluation does
for a short clip, and the score is marked `warming`. A streaming model takes each frame once.

    frames             0 ........ 111 ................. 600 ... 612 ... 624
    windowed           no score   | warming, repeated   | offline score, then every 12 frames
    frames             0  16  32 ... 112 ............. 592 ... 608 ... 624
    streaming, 16      .   .   .     | warming           | last whole step of the first 600, then every 16 frames
"""

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FeatureStream, Frames, FrontEnd, Samples, fill
from runtime.audio.ring_buffer import RingBuffer
from runtime.audio.score_times import first
from runtime.support.errors import ShrikeError

STEP = 12  # frames between scores of a windowed model: 12 x 130 samples = 97.5 ms
SHORT_GAP = 0.25  # s; a longer gap resets the window or state
LARGEST = 1e4  # full scale is 1: 80 dB above it lies no sound, and its power still fits into float32

Features = NDArray[np.float32]  # (1, 1, bands, frames)


@dataclass(frozen=True)
class Score:
    """The model's output for the window that ended at `time`."""

    time: float  # s since the stream began, of the newest sample in the window
    value: float  # logit(bona fide) - logit(spoof)
    frames: int  # in the window, at most 600
    warming: bool  # less than a full window
    cost: float = field(default=0.0, compare=False)  # s of computation: features, and the share of the model's calls


class Framer(ABC):
    """Buffers one stream. Any split of the same samples gives the same windows, bit for bit."""

    def __init__(self, frontend: FrontEnd, step: int, full: int, width: int) -> None:
        """`step`: frames between scores; `full`: frames of a score that is not `warming`; `width`: of a window."""
        self.frontend, self.step = frontend, step
        self._full, self._ring, self._features = full, RingBuffer(frontend.bands, width), FeatureStream(frontend)
        self.position = 0  # samples since the stream began, gaps included
        self.reset()

    def reset(self) -> None:
        """Start with an empty window or state, as after a long gap; time goes on."""
        self._ring.reset()
        self.count = 0  # frames since the reset
        self._served = 0  # windows since the reset
        self._tail: deque[Frames] = deque()  # after the end: frames to append before each remaining window
        self._cost = 0.0  # s since the last score
        self._splice()

    def _splice(self) -> None:
        """Begin a new row of frames here, so that none spans a gap."""
        self._features.reset()
        self._pending: deque[Samples] = deque()  # samples that are in no frame yet
        self._taken = self.position  # where they begin
        self._origin, self._frames = self.position, 0  # where the row begins; its frames
        self._schedule()

    def _schedule(self) -> None:
        frames = self._frames + self._frames_until_due()
        self._due_at = self._origin + (frames - 1) * self.frontend.hop + self.frontend.window

    @property
    def interval(self) -> float:
        """Seconds between scores."""
        return self.step * self.frontend.hop / self.frontend.rate

    @property
    def end(self) -> int:
        """Position of the newest sample in the current window."""
        return self._origin + (self._frames - 1) * self.frontend.hop + self.frontend.window

    def restart_state(self) -> None:
        """Let the next window be the first of a new state, as after seconds without voice; frames go on."""
        self._served = 0

    def abandon(self) -> float:
        """Reset, as the current window could not be computed; return the seconds from its first new frame on."""
        lost = self.position - self.end + self._frames_until_due() * self.frontend.hop
        self.reset()
        return lost / self.frontend.rate

    @property
    def fresh(self) -> bool:
        """True if the current window is the first since the reset: a model's state starts anew."""
        return self._served == 1

    @property
    def ready(self) -> bool:
        """True if a window is due."""
        return self.position >= self._due_at or bool(self._tail)

    # ---- samples in, windows out

    def accept(self, samples: Samples) -> None:
        """Buffer new samples (n,), full scale 1, without computing. Clips what is too loud; refuses NaN."""
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ShrikeError(
                f"samples {samples.shape} of {samples.dtype}: expected (n,) floats with full scale 1; "
                "runtime.audio.resampler.Resampler averages channels"
            )
        if np.isnan(samples).any():
            raise ShrikeError("samples hold NaN: expected numbers; runtime.audio.resampler.Resampler sets NaN to zero")
        if len(samples):
            self._pending.append(np.clip(samples, -LARGEST, LARGEST).astype(np.float32, copy=False))
            self.position += len(samples)

    def next(self) -> Features:
        """Compute the next window that is due: (1, 1, bands, frames), valid until the next call."""
        if not self.ready:
            raise ValueError("no window is due: check `ready` first")
        began = time.perf_counter()
        if self._tail:
            self._ring.push(self._tail.popleft())
        else:
            self._take(self._due_at)
        self._served += 1
        self._cost += time.perf_counter() - began
        return self._ring.view[None, None]

    def _take(self, until: int) -> Frames:
        """Move the samples before position `until` into frames."""
        parts = [np.empty(0, np.float32)]
        while self._taken < until:
            part, missing = self._pending.popleft(), until - self._taken
            if len(part) > missing:
                self._pending.appendleft(part[missing:])
            parts.append(part[:missing])
            self._taken += len(parts[-1])
        frames = self._features.push(np.concatenate(parts))
        self.count += len(frames)
        self._frames += len(frames)
        self._ring.push(frames)
        self._schedule()
        return frames

    def skip(self, samples: int) -> bool:
        """Insert a gap of that many samples: no frame spans it. True if it was so long that the framer was reset."""
        self._flush()
        self.position += samples
        long = samples > SHORT_GAP * self.frontend.rate
        if long:
            self.reset()
        else:
            self._splice()
        return long

    def _flush(self) -> None:
        if self.ready:
            raise ValueError("windows are due: take them before a gap or the end")
        self._take(self.position)

    # ---- logits in, scores out

    def _result(self, logits: NDArray[np.float32], seconds: float) -> float:
        self._cost += seconds
        spoof, bonafide = logits.ravel().tolist()
        value = float(bonafide) - float(spoof)
        if not math.isfinite(value):
            raise ShrikeError(f"the model's score is {value}: expected a finite number; export the model again")
        return value

    def _score(self, value: float, frames: int) -> Score:
        frames, cost, self._cost = min(self.count, frames), self._cost, 0.0
        return Score(self.end / self.frontend.rate, value, min(frames, self.frontend.width), frames < self._full, cost)

    @abstractmethod
    def _frames_until_due(self) -> int: ...

    @abstractmethod
    def score(self, logits: NDArray[np.float32], seconds: float = 0.0) -> Score | None:
        """Turn the logits (2,) or (1, 2) of the current window into a score; `seconds`: what computing them took."""

    def unscored(self) -> Score | None:
        """Close the current window without running the model, if that needs no state: a score of NaN."""
        return None

    @abstractmethod
    def finish(self, newest: bool = False) -> Score | None:
        """End the clip. Its offline score is returned, or its last windows are due; continue after `reset`.

        `newest`: a clip longer than a window gets a last score of its newest frames as well.
        """


class WindowFramer(Framer):
    """Framer of a windowed model: the newest 600 frames every `step` frames."""

    def __init__(self, frontend: FrontEnd, step: int | None = None, full_only: bool = False) -> None:
        """`full_only`: no score before the first full window, as for files."""
        step = STEP if step is None else step
        if not 1 <= step <= frontend.width:
            raise ShrikeError(f"step {step}: expected 1 to {frontend.width} frames")
        self._earliest = frontend.width if full_only else first(frontend, 1)
        super().__init__(frontend, step, frontend.width, frontend.width)

    def reset(self) -> None:
        self._scored = 0  # frames in the window at its last score
        super().reset()

    def _frames_until_due(self) -> int:
        frames = self.step - (self.count - self.frontend.width) % self.step
        missing = max(0, self._earliest - self.count - frames)
        return frames + -(-missing // self.step) * self.step

    def score(self, logits: NDArray[np.float32], seconds: float = 0.0) -> Score:
        self._scored = self.count
        return self._score(self._result(logits, seconds), self.count)

    def unscored(self) -> Score:
        self._scored = self.count
        return self._score(math.nan, self.count)

    def finish(self, newest: bool = False) -> None:
        """End the clip: one that is shorter than a window gets a last window of all its frames, repeated."""
        self._flush()
        if (newest or not self._ring.full) and self.count not in (0, self._scored):
            self._tail.append(np.empty((0, self.frontend.bands), np.float32))


class StepFramer(Framer):
    """Framer of a streaming model: `frames` new frames a step, each frame once."""

    def __init__(self, frontend: FrontEnd, frames: int, step: int | None = None) -> None:
        step = frames if step is None else step
        if not 1 <= step <= max(frontend.width, frames) or step % frames:
            raise ShrikeError(f"step {step}: expected a multiple of {frames} up to {frontend.width} frames")
        self._every, self._earliest = frames, first(frontend, frames)
        super().__init__(frontend, step, frontend.width // frames * frames, frames)

    def reset(self) -> None:
        self._early: list[Frames] = []  # frames before the first score, for a clip that ends before it
        self._unscored: tuple[float, int] | None = None  # value and frames of a step between two scores
        super().reset()

    def _frames_until_due(self) -> int:
        return self._every - self.count % self._every

    def _take(self, until: int) -> Frames:
        early = self.count < self._earliest
        frames = super()._take(until)
        if early:
            self._early.append(frames)
        else:
            self._early.clear()
        return frames

    def score(self, logits: NDArray[np.float32], seconds: float = 0.0) -> Score | None:
        value, fed = self._result(logits, seconds), self._ring.count
        repeated = fed > self.count
        self._unscored = None
        if fed >= self._earliest and ((fed - self._full) % self.step == 0 or repeated):
            return self._score(value, fed)
        self._unscored = value, fed
        return None

    def finish(self, newest: bool = False) -> Score | None:
        """End the clip: its score is that of its last whole step. One that ends before the first score repeats its
        frames up to there."""
        self._flush()
        if 0 < self.count < self._earliest:
            repeated = fill(np.concatenate(self._early), self._earliest)[self.count :]
            self._tail.extend(np.split(repeated, range(self._frames_until_due(), len(repeated), self._every)))
        elif self._unscored is not None and (newest or self._unscored[1] <= self._full):
            return self._score(*self._unscored)
        return None
