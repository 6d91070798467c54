"""Networks that remember, calibrated and judged on streams: clips from the reset on, and one that goes on for an hour.

    ranges = find_ranges(step, names, clips, "min-max")         # of states and values that occur in streams
    scores = trials.scores(as_runner(step), "INT8")             # StreamTrials, by the rule of runtime.audio.score_times
    scores = trials.scores(by_steps(engine), "engine")          # of a file that runs
    drift = measure_drift(float_step, step, trials.cache, 60)   # errors in the first and in the last minute

What a network remembers could drift: a rounding that leans to one side, an average that never forgets. So an hour of
clips, one behind the other without a reset, goes through both models; it begins and ends with the same minute of sound:

    |= minute 1 =|... clips ...|= minute 1 again =|      errors of INT8 against float in both, on the same sound

By the last minute all that is remembered of the first is gone, so what still differs came from the hour between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.graph import INPUT, Floats, score
from export.int8.calibration import Clips, Method, clip_input, read_ranges
from export.int8.scales import Ranges
from export.streaming_graph import Runner, Step, Stream, steps
from export.verify import Scores, Trials
from runtime.audio.features import FrontEnd
from runtime.audio.score_times import STEP, first, scored
from runtime.engines import StreamingEngine, initial_states
from runtime.support.errors import ShrikeError
from train.data.cache import FeatureCache
from train.progress import Progress

FORGOTTEN = 20.0  # s of both minutes that do not count: until what was before is out of all averages
SHORTEST = 3  # minutes: the first, something between, the first again
NO_WORSE = 1.02  # of the first minute's error, that the last one may have: averages forget, but not to the last bit


def find_ranges(step: Step, names: Sequence[str], clips: Clips, method: Method, percentile: float = 99.999) -> Ranges:
    """The largest magnitude that INT8 shall hold, for every named tensor, over all steps of these clips."""
    inner = tuple(name for name in names if name != INPUT)
    frames = step.state.frames
    total = sum(clip.shape[3] // frames for clip in clips)

    def seen() -> Iterator[dict[str, Floats]]:
        stream = Stream(step, extra=inner)
        for clip in clips:
            stream.reset()
            for piece in steps(clip, frames):
                yield {INPUT: piece, **dict(zip(inner, stream(piece)[1], strict=True))}

    return read_ranges(names, seen(), total, method, percentile)


def by_steps(engine: StreamingEngine) -> Runner:
    """An engine as a function of a whole clip, as export.streaming_graph.as_runner makes one of a graph."""

    def run(features: Floats) -> Floats:
        states, found = initial_states(engine.state, 1), []
        for piece in steps(features, engine.state.frames):
            logits, states = engine.step(piece, states)
            found.append(logits)
        return np.concatenate(found)

    return run


@dataclass(frozen=True)
class StreamTrials(Trials):
    """Trials to verify with: of every clip its score, and those of further moments (`windows` in all)."""

    step: int = STEP  # frames

    def moments(self, frames: int) -> NDArray[np.int64]:
        """Behind which steps of a clip with so many frames, counted from 0, scores are taken."""
        begin, end = first(self.cache.frontend, self.step), scored(frames, self.cache.frontend, self.step)
        last = max(frames // self.step * self.step, end)
        if self.windows == 1:
            return np.array([end // self.step - 1])
        others = np.linspace(begin, last, self.windows - 1) // self.step
        return np.concatenate([[end // self.step], others]).astype(np.int64) - 1

    def scores(self, runner: Runner, title: str = "verification") -> Scores:
        """Bona fide minus spoof at every moment, (n,)."""
        found: list[Scores] = []
        least = first(self.cache.frontend, self.step)
        with Progress(title, len(self.cache), "streams") as bar:
            for clip, frames in enumerate(self.cache.lengths.tolist()):
                moments = self.moments(frames)
                features = clip_input(self.cache.frames(clip), least)[..., : (moments.max() + 1) * self.step]
                found.append(score(runner(features))[moments])
                bar.advance()
        return np.concatenate(found)


@dataclass(frozen=True)
class Drift:
    """Errors of scores, root mean square, in the first and in the last minute of a stream."""

    minutes: float
    first: float
    last: float

    @classmethod
    def of(cls, errors: Scores, minutes: int) -> "Drift":
        """From the errors behind every step of `minutes` as `long_sound` plays them."""
        a_minute = len(errors) // minutes
        skipped = int(FORGOTTEN / 60 * a_minute)
        ends = errors[skipped:a_minute], errors[skipped - a_minute :]
        return cls(minutes, *(float(np.sqrt(np.mean(part**2))) for part in ends))

    @property
    def faults(self) -> list[str]:
        if self.last <= self.first * NO_WORSE:
            return []
        return [f"INT8 drifts: on the same minute of sound its error is {self.first:.4f} at first, {self.sentence}"]

    @property
    def sentence(self) -> str:
        return f"{self.last:.4f} after {self.minutes:.0f} minutes without a reset"


def measure_drift(before: Step, after: Step, cache: FeatureCache, minutes: int) -> Drift:
    """Both models through the same stream, `minutes` long."""
    if minutes < SHORTEST:
        raise ShrikeError(f"--drift-minutes {minutes}: 0 for none, or at least {SHORTEST}, were expected")
    frames = before.state.frames
    streams, errors = (Stream(before), Stream(after)), list[float]()
    with Progress(f"{minutes} minutes without a reset", steps_in(cache.frontend, minutes, frames), "steps") as bar:
        for piece in long_sound(cache, minutes, frames):
            features = clip_input(piece, frames)
            one, two = (score(stream(features)[0])[0] for stream in streams)
            errors.append(float(two - one))
            bar.advance()
    return Drift.of(np.array(errors), minutes)


def steps_in(frontend: FrontEnd, minutes: int, frames: int) -> int:
    """Whole steps of a minute, so many times."""
    return minutes * (60 * frontend.rate // frontend.hop // frames)


def long_sound(cache: FeatureCache, minutes: int, frames: int) -> Iterator[NDArray[np.float16]]:
    """Step after step, (frames, bands): clips in an order by chance; the last minute is the first again."""
    a_minute, sound = steps_in(cache.frontend, 1, frames), _endless(cache)
    minute = [np.concatenate([next(sound) for _ in range(frames)]) for _ in range(a_minute)]
    yield from minute
    for _ in range((minutes - 2) * a_minute):
        yield np.concatenate([next(sound) for _ in range(frames)])
    yield from minute


def _endless(cache: FeatureCache) -> Iterator[NDArray[np.float16]]:
    """Frame after frame of all clips, (1, bands) each, in an order by chance; and again."""
    order = np.random.default_rng(0).permutation(len(cache))
    while True:
        for clip in order:
            frames = cache.frames(int(clip))
            for place in range(len(frames)):
                yield frames[place : place + 1]
