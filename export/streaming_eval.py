"""Streaming models over streams without a reset: INT8's drift, and float steps against one forward.

    scores = trials.scores(by_steps(engine), "engine")          # of a file in the runtime, windowed or streaming
    drift = measure_drift(float_graph, graph, trials.cache, 60) # INT8's errors in the first and in the last minute
    faults = compare_with_whole(checkpoint, float_graph, trials.cache, 60)

States could drift: a rounding with a bias, an average that never decays. So both models run through an hour of clips
without a reset. The hour begins and ends with the same minute of sound, and the errors in both are compared:

    |= minute 1 =|... clips ...|= minute 1 again =|      errors of INT8 against float in both

By the last minute the states no longer depend on the first, so a difference comes from the hour between.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.graph import Floats, score
from export.int8.calibration import network_input
from export.model_graph import Forward, ModelGraph, StepSession, run, split_steps
from export.verify import Scores
from runtime.audio.features import FrontEnd
from runtime.engines import Engine, as_streaming, initial_states
from train.data.cache import FeatureCache
from train.progress import Progress, say

if TYPE_CHECKING:
    from train.checkpoint import Checkpoint

WARM_UP = 40.0  # s of both minutes that do not count: the level has decayed below float32, so no rounding differs
NO_WORSE = 1.02  # of the first minute's error, allowed in the last one: averages decay, but not to the last bit
EQUAL = 1e-4  # of a score, relative above 1: float32 sums in another order
WHOLE_MINUTES = 5  # in one forward, at most: a minute takes 0.1 GB at --width 0.5, 0.2 GB at 1


def by_steps(engine: Engine) -> Forward:
    """Wrap a streaming engine: a clip (1, 1, bands, frames) -> logits (steps, 2), from the reset; others stay."""
    streaming = as_streaming(engine)
    if streaming is None:
        return engine

    def run(features: Floats) -> Floats:
        states, found = initial_states(streaming.state, 1), []
        for piece in split_steps(features, streaming.state.frames):
            logits, states = streaming.step(piece, states)
            found.append(logits)
        return np.concatenate(found)

    return run


@dataclass(frozen=True)
class Drift:
    """Errors of scores, root mean square, in the first and in the last minute of a stream."""

    minutes: float
    first: float
    last: float

    @property
    def faults(self) -> list[str]:
        if self.last <= self.first * NO_WORSE:
            return []
        return [f"INT8 drifts: on the same minute of sound its error is {self.first:.4f} at first, {self.sentence}"]

    @property
    def sentence(self) -> str:
        return f"{self.last:.4f} after {self.minutes:.0f} minutes without a reset"


def measure_drift(before: ModelGraph, after: ModelGraph, cache: FeatureCache, minutes: int) -> Drift:
    """Run both models through the same stream and compare their scores."""
    a_minute = steps_in_a_minute(cache.frontend, before.frames)
    streams, errors = (StepSession(before), StepSession(after)), np.empty(minutes * a_minute)
    with Progress(f"{minutes} minutes without a reset", len(errors), "steps") as bar:
        for place, features in enumerate(long_stream(cache, minutes, before.frames)):
            one, two = (score(stream(features)[0])[0] for stream in streams)
            errors[place] = two - one
            bar.advance()
    skipped = int(WARM_UP / 60 * a_minute)
    ends = errors[skipped:a_minute], errors[skipped - a_minute :]
    return Drift(minutes, *(float(np.sqrt(np.mean(part**2))) for part in ends))


def compare_with_whole(
    checkpoint: "Checkpoint", model: ModelGraph, cache: FeatureCache, minutes: int
) -> tuple[str, ...]:
    """Compare float steps with one forward of the checkpoint's network over the same stream; return faults."""
    minutes = min(minutes, WHOLE_MINUTES)
    clip = np.concatenate(list(long_stream(cache, minutes, model.frames)), axis=3)
    whole, after = whole_scores(checkpoint, clip, model.frames)
    apart = float(np.abs(score(run(model, clip))[after] - whole).max())
    limit = EQUAL * max(1.0, float(np.abs(whole).max()))
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


def steps_in_a_minute(frontend: FrontEnd, frames: int) -> int:
    return 60 * frontend.rate // frontend.hop // frames


def long_stream(cache: FeatureCache, minutes: int, frames: int) -> Iterator[Floats]:
    """Yield steps (1, 1, bands, frames) of clips in random order; the last minute is the first one again."""
    a_minute = steps_in_a_minute(cache.frontend, frames)
    order = np.random.default_rng(0).permutation(len(cache)).tolist()
    sound = (frame for clip in cycle(order) for frame in cache.frames(clip))
    steps = (network_input(np.stack([first, *islice(sound, frames - 1)])) for first in sound)
    minute = list(islice(steps, a_minute))
    return chain(minute, islice(steps, (minutes - 2) * a_minute), minute)
