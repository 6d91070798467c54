"""Streaming models, calibrated and judged on streams: clips from the reset on, and one that runs for an hour.

    ranges = find_ranges(step, names, clips, "min-max")         # of states and activations that occur in streams
    scores = trials.scores(as_runner(step), "INT8")             # StreamTrials, by the rule of runtime.audio.score_times
    scores = trials.scores(by_steps(engine), "engine")          # of a file in the runtime
    drift = measure_drift(float_step, step, trials.cache, 60)   # INT8's errors in the first and in the last minute
    faults = compare_with_whole(checkpoint, step, trials.cache, 60)     # float steps against one forward

States could drift: a rounding with a bias, an average that never decays. So both models run through an hour of clips
without a reset. The hour begins and ends with the same minute of sound, and the errors in both are compared:

    |= minute 1 =|... clips ...|= minute 1 again =|      errors of INT8 against float in both

By the last minute the states no longer depend on the first, so a difference comes from the hour between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.graph import INPUT, Floats, Forward, score
from export.int8.calibration import CalibrationClips, Method, read_ranges, repeated_clip
from export.int8.scales import Ranges
from export.streaming_graph import StepGraph, StepSession, split_steps
from export.verify import Scores, Trials
from runtime.audio.features import FrontEnd
from runtime.audio.score_times import STEP, first, scored
from runtime.engines import StreamingEngine, initial_states
from train.data.cache import FeatureCache
from train.progress import Progress, say

if TYPE_CHECKING:
    from train.checkpoint import Checkpoint

WARM_UP = 40.0  # s of both minutes that do not count: the level has decayed below float32, so no rounding differs
NO_WORSE = 1.02  # of the first minute's error, allowed in the last one: averages decay, but not to the last bit
EQUAL = 1e-4  # of a score, relative above 1: float32 sums in another order
WHOLE_MINUTES = 5  # in one forward, at most: a minute takes 0.1 GB at --width 0.5, 0.2 GB at 1


def find_ranges(
    step: StepGraph, names: Sequence[str], clips: CalibrationClips, method: Method, percentile: float = 99.999
) -> Ranges:
    """Estimate the largest magnitude that INT8 holds, for every named tensor, over all steps of these clips."""
    inner = tuple(name for name in names if name != INPUT)
    frames = step.state.frames
    total = sum(clip.shape[3] // frames for clip in clips)

    def values() -> Iterator[dict[str, Floats]]:
        stream = StepSession(step, extra=inner)
        for clip in clips:
            stream.reset()
            for piece in split_steps(clip, frames):
                yield {INPUT: piece, **dict(zip(inner, stream(piece)[1], strict=True))}

    return read_ranges(names, values(), total, method, percentile)


def by_steps(engine: StreamingEngine) -> Forward:
    """Wrap an engine in a function: a clip (1, 1, bands, frames) -> logits (steps, 2), from the reset."""

    def run(features: Floats) -> Floats:
        states, found = initial_states(engine.state, 1), []
        for piece in split_steps(features, engine.state.frames):
            logits, states = engine.step(piece, states)
            found.append(logits)
        return np.concatenate(found)

    return run


@dataclass(frozen=True)
class StreamTrials(Trials):
    """Verification trials as streams: the score of every clip, and scores at further moments (`windows` in all)."""

    step: int = STEP  # frames

    def moments(self, frames: int) -> NDArray[np.int64]:
        """Steps, counted from 0, after which a clip of so many frames is scored."""
        begin, end = first(self.cache.frontend, self.step), scored(frames, self.cache.frontend, self.step)
        last = max(frames // self.step * self.step, end)
        if self.windows == 1:
            return np.array([end // self.step - 1])
        others = np.linspace(begin, last, self.windows - 1) // self.step
        return np.concatenate([[end // self.step], others]).astype(np.int64) - 1

    def scores(self, forward: Forward, title: str = "verification") -> Scores:
        """Compute bona fide minus spoof at every moment, (n,)."""
        found: list[Scores] = []
        least = first(self.cache.frontend, self.step)
        with Progress(title, len(self.cache), "streams") as bar:
            for clip, frames in enumerate(self.cache.lengths.tolist()):
                moments = self.moments(frames)
                features = repeated_clip(self.cache.frames(clip), least)[
                    :, :, :, : (int(np.max(moments)) + 1) * self.step
                ]
                found.append(score(forward(features))[moments])
                bar.advance()
        return np.concatenate(found)


# ---- without a reset -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """Errors of scores, root mean square, in the first and in the last minute of a stream."""

    minutes: float
    first: float
    last: float

    @classmethod
    def of(cls, errors: Scores, minutes: int) -> "Drift":
        """Summarise the errors after every step of `long_stream`."""
        a_minute = len(errors) // minutes
        skipped = int(WARM_UP / 60 * a_minute)
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


def measure_drift(before: StepGraph, after: StepGraph, cache: FeatureCache, minutes: int) -> Drift:
    """Run both models through the same stream and compare their scores."""
    frames = before.state.frames
    streams, errors = (StepSession(before), StepSession(after)), list[float]()
    with Progress(f"{minutes} minutes without a reset", steps_in(cache.frontend, minutes, frames), "steps") as bar:
        for piece in long_stream(cache, minutes, frames):
            features = repeated_clip(piece, frames)
            one, two = (score(stream(features)[0])[0] for stream in streams)
            errors.append(float(two - one))
            bar.advance()
    return Drift.of(np.array(errors), minutes)


def compare_with_whole(checkpoint: "Checkpoint", step: StepGraph, cache: FeatureCache, minutes: int) -> tuple[str, ...]:
    """Compare float steps with one forward of the checkpoint's network over the same stream; return faults."""
    frames, minutes = step.state.frames, min(minutes, WHOLE_MINUTES)
    pieces = [repeated_clip(piece, frames) for piece in long_stream(cache, minutes, frames)]
    stream = StepSession(step)
    steps = np.array([score(stream(piece)[0])[0] for piece in pieces])
    whole, after = whole_scores(checkpoint, np.concatenate(pieces, axis=3), frames)
    apart, limit = float(np.abs(steps[after] - whole).max()), EQUAL * max(1.0, float(np.abs(whole).max()))
    say(f"float steps differ from one forward over {minutes} minutes by {apart:.2g} at most")
    return () if apart <= limit else (f"float steps differ from the whole by {apart:.2g}; allowed: {limit:.2g}",)


def whole_scores(checkpoint: "Checkpoint", clip: Floats, frames: int) -> tuple[Scores, NDArray[np.int64]]:
    """Score a clip (1, 1, bands, n) in one forward of the trained network, as training does.

    Returns scores (k,), and the steps of so many frames, counted from 0, after which they stand.
    """
    import torch

    from runtime.audio.features import level
    from train.networks.streaming import StreamingNetwork

    network = checkpoint.network().eval()
    assert isinstance(network, StreamingNetwork)
    flat = level(clip[0, 0].T, checkpoint.settings.frontend.level).T
    ends = np.array(network.steps(clip.shape[3]))
    with torch.inference_mode():
        pooled, _ = network.stage_outputs(torch.from_numpy(np.ascontiguousarray(flat))[None, None])
        scores = score(network.head(pooled[-1]).numpy())
    counted = ends % frames == 0
    return scores[counted], ends[counted] // frames - 1


def steps_in(frontend: FrontEnd, minutes: int, frames: int) -> int:
    """Whole steps of a minute, times `minutes`."""
    return minutes * (60 * frontend.rate // frontend.hop // frames)


def long_stream(cache: FeatureCache, minutes: int, frames: int) -> Iterator[NDArray[np.float16]]:
    """Yield step after step, (frames, bands), of clips in random order; the last minute is the first one again."""
    a_minute, sound = steps_in(cache.frontend, 1, frames), _endless(cache)
    minute = [np.concatenate([next(sound) for _ in range(frames)]) for _ in range(a_minute)]
    yield from minute
    for _ in range((minutes - 2) * a_minute):
        yield np.concatenate([next(sound) for _ in range(frames)])
    yield from minute


def _endless(cache: FeatureCache) -> Iterator[NDArray[np.float16]]:
    """Yield frame after frame, (1, bands), of all clips in random order, over and over."""
    order = np.random.default_rng(0).permutation(len(cache))
    while True:
        for clip in order:
            frames = cache.frames(int(clip))
            for place in range(len(frames)):
                yield frames[place : place + 1]
