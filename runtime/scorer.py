"""Raw scores of one stream: a batcher of one.

scorer = StreamScorer(engine, card.frontend)
for score in scorer.push(samples):           # any number of samples
    print(score.time, score.value)           # logit of bona fide minus logit of spoof, over the last 600 frames
"""

from runtime.audio.features import FrontEnd, Samples
from runtime.audio.framer import Score
from runtime.engines import Engine
from runtime.multi_stream import StreamBatcher


class StreamScorer:
    """Scores of one stream. Any split of the same samples gives the same scores, bit for bit."""

    def __init__(self, engine: Engine, frontend: FrontEnd, step: int | None = None, full_only: bool = False) -> None:
        self._batcher = StreamBatcher(engine, frontend, step, 1, full_only)
        self._stream = self._batcher.create_stream()
        self.framer, self.interval = self._stream.framer, self._batcher.interval  # interval: s between scores

    def push(self, samples: Samples) -> list[Score]:
        """Score the windows that new samples (n,), full scale 1, complete. Clips what is too loud; refuses NaN."""
        self._stream.accept_waveform(samples)
        self._batcher.decode_all([self._stream])
        return self._batcher.get_result(self._stream)

    def skip(self, samples: int) -> bool:
        """Insert a gap. True if it was so long that the window or state was reset."""
        return self._batcher.skip(self._stream, samples)

    def reset(self) -> None:
        """Start with an empty window or state; time goes on."""
        self._stream.reset()

    def finish(self) -> list[Score]:
        """End the clip: one shorter than a window gets the score that offline evaluation gives it."""
        self._batcher.finish(self._stream)
        return self._batcher.get_result(self._stream)
