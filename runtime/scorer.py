"""Samples in, scores out, of one stream: front-end, window or state, and engine.

    scorer = StreamScorer(engine, card.frontend)
    for score in scorer.push(samples):           # any number of samples, also none
        print(score.time, score.value)           # bona fide minus spoof of the last 600 frames

A pool with one stream, computed as it comes; runtime.audio.framer says when scores are due, runtime.multi_stream serves many.
"""

from runtime.audio.features import FrontEnd, Samples
from runtime.audio.framer import LARGEST, SPLICED, STEP, Score, checked
from runtime.audio.score_times import EARLIEST
from runtime.engines import Engine
from runtime.multi_stream import StreamBatcher

__all__ = ["EARLIEST", "LARGEST", "PIECE", "SPLICED", "STEP", "Score", "StreamScorer"]

PIECE = 16_000  # samples processed at once: bounds the memory of a long push


class StreamScorer:
    """Any chunking of the same samples gives the same scores, bit for bit. Keeps one window, or state, and no more."""

    def __init__(self, engine: Engine, frontend: FrontEnd, step: int | None = None) -> None:
        """`step`: frames between scores; by default 12, or those that a network which remembers takes at a time."""
        self.frontend = frontend
        self._stream = StreamBatcher(engine, frontend, step, most=1).join()

    @property
    def interval(self) -> float:
        """Seconds between scores."""
        return self._stream.interval

    @property
    def heard(self) -> int:
        """Samples since the stream began, those in holes included."""
        return self._stream.heard

    @property
    def until_due(self) -> int:
        """Samples until the network is due: whoever pushes no more than these gets at most one score, just in time."""
        return self._stream.until_due

    def reset(self) -> None:
        """Begin a new window here; time goes on."""
        self._stream.reset()

    def skip(self, samples: int) -> bool:
        """A hole of that many samples: no frame spans it. True if the window had to begin again."""
        return self._stream.skip(samples)

    def push(self, samples: Samples) -> list[Score]:
        """New samples (n,), full scale 1 -> the scores they complete. Too loud is cut; what is no number is refused."""
        samples = checked(samples)
        for start in range(0, max(1, len(samples)), PIECE):
            self._stream.push(samples[start : start + PIECE])
            self._stream.settle()
        return self._scores()

    def finish(self) -> list[Score]:
        """The end: a clip shorter than a window gets the score of all its frames, as offline evaluation gives it."""
        self._stream.finish()
        return self._scores()

    def _scores(self) -> list[Score]:
        if self._stream.fault:
            raise self._stream.fault
        return self._stream.scores()
