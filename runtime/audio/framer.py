"""One stream up to the network's door: samples become frames, frames are counted, and the network is due.

    hearing = Hearing(card.frontend)                        # a network that is given whole windows
    hearing = Hearing(card.frontend, frames=16)             # one that remembers, and is given 16 new frames at a time
    hearing.listen(samples)
    while hearing.due():
        score = hearing.answer(*network(hearing.features))  # None where that step gives no score

Scores are due `step` frames apart, so that one falls on the first 600 frames: what offline evaluation gives a clip.
Before that a window's frames are repeated, as offline evaluation repeats those of a short clip, and the score is marked
`warming`. A network that remembers takes each frame once; its first steps give no score.

    frames        0 ........ 111 ................. 600 ... 612 ... 624
    windows       nothing    | warming, repeated   | the offline score, then every 12 frames
    frames        0  16  32 ... 112 ............. 592 ... 608 ... 624
    steps of 16   .   .   .     | warming           | the last whole step of the first 600, then every 16 frames
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FeatureStream, Frames, FrontEnd, Samples
from runtime.audio.ring_buffer import SLACK, RingBuffer
from runtime.audio.score_times import first
from runtime.support.errors import ShrikeError

STEP = 12  # frames between scores of windows: 12 x 130 samples = 97.5 ms
SPLICED = 0.25  # s; over a shorter hole the window is kept, over a longer one it starts again
LARGEST = 1e4  # full scale is 1: 80 dB above it lies no sound, and its power still fits into float32


@dataclass(frozen=True)
class Score:
    """What the network said about the window that ended at `time`."""

    time: float  # s since the stream began, of the newest sample in the window
    value: float  # logit(bona fide) - logit(spoof)
    frames: int  # in the window, at most 600
    warming: bool  # fewer than a window's


class Hearing:
    """Any chunking of the same samples gives the same features at the same moments, bit for bit."""

    def __init__(self, frontend: FrontEnd, step: int | None = None, frames: int | None = None) -> None:
        """`frames`: new ones that a network takes which remembers; `step`: frames between scores, by default those."""
        if step is None:
            step = frames or STEP
        if not 1 <= step <= max(frontend.width, frames or 1):
            raise ShrikeError(f"step {step}: 1 to {frontend.width} frames were expected")
        if frames and step % frames:
            raise ShrikeError(f"step {step}: this network takes {frames} frames at a time, a multiple was expected")
        self.frontend, self.step = frontend, step
        self._remembers = frames is not None
        self._every = frames or step  # frames between calls of the network
        self._whole = frontend.width // (frames or 1) * (frames or 1)  # frames after which a score is the offline one
        self._earliest = first(frontend, frames or 1)
        self._stream = FeatureStream(frontend)
        self._window = RingBuffer(frontend.bands, frames or frontend.width, 0 if frames else SLACK)
        self.heard = 0  # samples since the stream began, those in holes included
        self.reset()

    def reset(self) -> None:
        """Begin anew here, with an empty window; time goes on."""
        self._window.reset()
        self.fresh = True  # nothing has been asked of the network since: its state is that of the beginning
        self.count = 0  # frames since then
        self._early: list[Frames] = []  # those before the first score, for a clip that ends before it
        self._repeated: Frames | None = None  # the same again, when it has
        self._last: tuple[int, float] | None = None  # frames and value of the newest step that gave no score
        self._due = False
        self._cut()

    def _cut(self) -> None:
        self._stream.reset()
        self._waiting: deque[Samples] = deque()
        self._held = 0  # samples waiting
        self._origin = self.heard  # where the stream of frames begins
        self._frames = 0  # since there
        self._scored = 0  # frames in the window at its last score

    @property
    def interval(self) -> float:
        """Seconds between scores."""
        return self.step * self.frontend.hop / self.frontend.rate

    # ---- sound in

    def listen(self, samples: Samples) -> None:
        """New samples (n,), full scale 1, any number. Too loud is cut; what is no number is refused, and not heard."""
        samples = checked(samples)
        if len(samples):
            self._waiting.append(np.clip(samples, -LARGEST, LARGEST).astype(np.float32, copy=False))  # a copy
            self._held += len(samples)
            self.heard += len(samples)

    @property
    def ready(self) -> bool:
        """Whether enough waits for the network to be due."""
        return self._due or self._repeated is not None or self._needed() <= self._held

    def skip(self, samples: int) -> bool:
        """A hole of that many samples: no frame spans it. True if the window had to begin again."""
        self._take(self._held)
        self.heard += samples
        begins_again = samples > SPLICED * self.frontend.rate
        if begins_again:
            self.reset()
        else:
            self._cut()
        return begins_again

    def finish(self) -> Score | None:
        """The end: what offline evaluation gives a clip that ended before its score came. Either that score, or the
        network is due, more than once for a clip shorter than the earliest score: its frames are repeated up to that.
        """
        self._take(self._held)
        if not self._remembers:
            self._due = not (self._window.full or self.count in (0, self._scored))
        elif 0 < self.count < self._earliest:
            frames = np.concatenate(self._early)
            self._repeated = np.take(frames, np.arange(self.count, self._earliest) % self.count, axis=0)
        elif self._last is not None and self._last[0] <= self._whole:
            return self._score(*self._last)
        return None

    # ---- the network's turn

    @property
    def until_due(self) -> int:
        """Samples until the network is due: whoever brings no more than these gets at most one score, just in time."""
        return max(1, self._needed() - self._held)

    def _needed(self) -> int:
        """Samples, those that wait included, that complete the frames up to the next call."""
        first = self._every - (self._window.count - self._whole) % self._every
        if not self._remembers and (missing := self._earliest - self._window.count - first) > 0:
            first += math.ceil(missing / self._every) * self._every
        end = self._origin + (self._frames + first - 1) * self.frontend.hop + self.frontend.window
        return end - self.heard + self._held

    def due(self) -> bool:
        """Take what waits up to the next call of the network; True if `features` are to be given to it now."""
        if not self._due:
            if self._repeated is not None:
                self._due = self._repeat()
            elif (needed := self._needed()) <= self._held:
                self._take(needed)
                self._due = True
            elif self._waiting and self._waiting[0].base is not None:
                self._waiting[0] = self._waiting[0].copy()  # the rest of a long push shall not hold all of it
        return self._due

    @property
    def features(self) -> NDArray[np.float32]:
        """(bands, 600), or the new frames alone, (bands, frames); valid until the next `due`."""
        return self._window.view

    def answer(self, spoof: float, bonafide: float) -> Score | None:
        """The network's logits on `features`; a score if one is due."""
        self._due = self.fresh = False
        value = float(bonafide) - float(spoof)
        if not math.isfinite(value):
            raise ShrikeError("gives a score that is not finite; export it again")
        fed = self._window.count
        scores = fed >= self._earliest and ((fed - self._whole) % self.step == 0 or self._repeated is not None)
        scores = scores or not self._remembers  # a window is looked at for nothing else
        self._last = None if scores else (fed, value)
        return self._score(fed, value) if scores else None

    def _score(self, fed: int, value: float) -> Score:
        self._scored, self._last = fed, None
        newest = self._origin + (self._frames - 1) * self.frontend.hop + self.frontend.window
        time = newest / self.frontend.rate
        return Score(time, value, min(self.count, fed, self.frontend.width), min(self.count, fed) < self._whole)

    def _take(self, samples: int) -> None:
        """Frames of so many waiting samples."""
        pieces, missing = [], samples
        while missing > 0:
            piece = self._waiting.popleft()
            if len(piece) > missing:
                self._waiting.appendleft(piece[missing:])
                piece = piece[:missing]
            pieces.append(piece)
            missing -= len(piece)
        if pieces:
            self._held -= samples
            frames = self._stream.push(np.concatenate(pieces) if len(pieces) > 1 else pieces[0])
            if self._remembers and self.count < self._earliest:
                self._early.append(frames)
            elif self._early:
                self._early = []
            self.count += len(frames)
            self._frames += len(frames)
            self._window.push(frames)

    def _repeat(self) -> bool:
        """The next step of a clip's repeated frames; False when there is none."""
        assert self._repeated is not None
        missing = self._every - self._window.count % self._every
        frames, self._repeated = self._repeated[:missing], self._repeated[missing:]
        self._window.push(frames)
        return len(frames) > 0


def checked(samples: Samples) -> Samples:
    """Sources promise all of this; whoever feeds a stream of his own learns here what he got wrong."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ShrikeError(
            f"samples {samples.shape} of {samples.dtype} came; (n,) floats with full scale 1 were expected: "
            "runtime.audio.resampler.Resampler averages channels"
        )
    if np.isnan(samples).any():
        raise ShrikeError(
            "samples that are no numbers came; use runtime.audio.resampler.Resampler, which makes silence of them"
        )
    return samples
