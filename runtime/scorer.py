"""Raw scores of one stream: framer and engine.

    scorer = StreamScorer(engine, card.frontend)
    for score in scorer.push(samples):           # any number of samples
        print(score.time, score.value)           # logit of bona fide minus logit of spoof, over the last 600 frames

runtime.multi_stream batches the model's calls of many streams.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FrontEnd, Samples
from runtime.audio.framer import Features, Framer, Score, StepFramer, WindowFramer
from runtime.engines import Engine, as_streaming
from runtime.engines.state_store import open_store
from runtime.support.errors import ShrikeError

Runner = Callable[[Features, bool], NDArray[np.float32]]  # window, whether it is the first since a reset -> logits


def open_framer(engine: Engine, frontend: FrontEnd, step: int | None = None, full_only: bool = False) -> Framer:
    """Return the framer that fits the engine's model; `step`: frames between scores, 12 or a streaming model's own.

    `full_only`: a windowed model scores no window that is not full, unless the clip is shorter.
    """
    streaming = as_streaming(engine)
    return StepFramer(frontend, streaming.state.frames, step) if streaming else WindowFramer(frontend, step, full_only)


def open_runner(engine: Engine) -> Runner:
    """Return a function that runs the engine on one stream and holds its state."""
    streaming = as_streaming(engine)
    if streaming is None:
        return lambda window, fresh: engine(window)
    store = open_store(streaming, 1)
    row = store.add()

    def run(window: Features, fresh: bool) -> NDArray[np.float32]:
        (logits,) = store.step([row], [fresh], [window[0, 0]])
        if isinstance(logits, ShrikeError):
            raise logits
        return logits

    return run


class StreamScorer:
    """Scores of one stream. Any split of the same samples gives the same scores, bit for bit."""

    def __init__(self, engine: Engine, frontend: FrontEnd, step: int | None = None, full_only: bool = False) -> None:
        self.framer, self._run = open_framer(engine, frontend, step, full_only), open_runner(engine)

    @property
    def interval(self) -> float:
        """Seconds between scores."""
        return self.framer.interval

    def push(self, samples: Samples) -> list[Score]:
        """Score the windows that new samples (n,), full scale 1, complete. Clips what is too loud; refuses NaN."""
        return [score for window in self.framer.push(samples) if (score := self.score(window))]

    def score(self, window: Features) -> Score | None:
        """Run the model on the framer's current window."""
        began = time.perf_counter()
        logits = self._run(window, self.framer.fresh)
        return self.framer.score(logits, time.perf_counter() - began)

    def skip(self, samples: int) -> bool:
        """Insert a gap. True if it was so long that the window or state was reset."""
        return self.framer.skip(samples)

    def reset(self) -> None:
        """Start with an empty window or state; time goes on."""
        self.framer.reset()

    def finish(self) -> list[Score]:
        """End the clip: one shorter than a window gets the score that offline evaluation gives it."""
        last = self.framer.finish()
        found = [last, *(self.score(window) for window in self.framer.windows())]
        return [score for score in found if score]
