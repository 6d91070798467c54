"""Batch the model's calls of many streams, which come and go at any time.

    batcher = StreamBatcher(engine, card.frontend)
    stream = batcher.create_stream()
    stream.accept_waveform(samples)                        # (n,) at the model's rate; buffers, computes nothing
    while ready := [stream for stream in streams if batcher.is_ready(stream)]:
        batcher.decode_streams(ready)                      # one window of each, in as few calls as possible
    for score in batcher.get_result(stream):
        print(score.time, score.value)
    batcher.remove(stream)

The names are those of sherpa-onnx. A stream's scores do not depend on how its samples are split or on other streams,
bit for bit: the exporter writes every sum as a product, whose order does not depend on the batch. An error of one
stream is raised to the caller of that stream alone.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FrontEnd, Samples
from runtime.audio.framer import Features, Framer, Score, StepFramer, WindowFramer
from runtime.card.schema import ANY_BATCH
from runtime.engines import Engine, EngineAwayError, StateLostError, as_streaming
from runtime.engines.state_store import open_store
from runtime.support.errors import ShrikeError

MOST = 16  # streams in one call: more gain nothing, and working memory grows with them
MOST_WINDOWS = 4  # the same for windowed models, which need 2 to 9 MB for each window


def open_framer(engine: Engine, frontend: FrontEnd, step: int | None = None, full_only: bool = False) -> Framer:
    """Return the framer that fits the engine's model; `step`: frames between scores, 12 or a streaming model's own.

    `full_only`: a windowed model scores no window that is not full, unless the clip is shorter.
    """
    streaming = as_streaming(engine)
    return StepFramer(frontend, streaming.state.frames, step) if streaming else WindowFramer(frontend, step, full_only)


class BatchedStream:
    """One stream of a batcher, by StreamBatcher.create_stream."""

    def __init__(self, framer: Framer, row: int, has_voice: Callable[[int], bool] | None) -> None:
        self.framer, self.row = framer, row  # row of the stream's state
        self._has_voice = has_voice
        self._scores: list[Score] = []
        self._error: ShrikeError | None = None  # why no further window is computed
        self._lost = 0.0  # s of sound that were lost with the state

    def accept_waveform(self, samples: Samples) -> None:
        """Buffer new samples (n,), full scale 1. Clips what is too loud; refuses NaN."""
        if self._error:
            raise self._error
        self.framer.accept(samples)

    @property
    def ready(self) -> bool:
        """True if a window is due and the stream has not failed."""
        return self._error is None and self.framer.ready

    def next(self) -> Features | None:
        """Return the next window that is due; None if it holds no voice and the model needs not run."""
        window = self.framer.next()
        if self._has_voice and not self._has_voice(self.framer.end) and (score := self.framer.unscored()):
            self._scores.append(score)
            return None
        return window

    def receive(self, logits: NDArray[np.float32] | ShrikeError, seconds: float) -> None:
        """Take the logits (2,) of the framer's current window. An error, or a score that is not finite, ends the
        stream; a lost state restarts it."""
        try:
            if isinstance(logits, StateLostError):
                self._lost += self.framer.abandon()
                return
            if isinstance(logits, ShrikeError):
                raise logits
            if score := self.framer.score(logits, seconds):
                self._scores.append(score)
        except ShrikeError as error:
            self._error = error

    def end(self, newest: bool) -> None:
        """End the clip: its last score is among the results, or its last windows are due."""
        if self._error:
            raise self._error
        if score := self.framer.finish(newest):
            self._scores.append(score)

    def result(self) -> list[Score]:
        """Return the new scores; raise the stream's error after its last score."""
        scores, self._scores = self._scores, []
        if self._error and not scores:
            raise self._error
        return scores

    def lost(self) -> float:
        """Return the seconds of sound that were lost with the state since the last call."""
        lost, self._lost = self._lost, 0.0
        return lost

    def reset(self) -> None:
        """Start with an empty window or state; time goes on, results and an error are dropped."""
        self.framer.reset()
        self._scores, self._error = [], None

    def remove(self) -> bool:
        """Refuse any further samples; False if it was removed before."""
        removed = self.row >= 0
        self.row, self._error = -1, ShrikeError("this stream was removed from its batcher: create another one")
        self._has_voice = None  # which may belong to the stream's owner: no cycle keeps both in memory
        return removed


class StreamBatcher:
    """Runs one engine for many streams. Not thread-safe; does not close the engine."""

    def __init__(
        self,
        engine: Engine,
        frontend: FrontEnd,
        step: int | None = None,
        most: int | None = None,
        full_only: bool = False,
    ) -> None:
        """`most`: streams in one call; `step` and `full_only` as in open_framer."""
        self._engine, streaming = engine, as_streaming(engine)
        self._open_framer = partial(open_framer, engine, frontend, step, full_only)
        most = getattr(engine, "most", MOST if streaming else MOST_WINDOWS) if most is None else most
        if most < 1:
            raise ShrikeError(f"{most} streams in one call: expected 1 or more")
        limit = getattr(engine, "batch", 1)  # windows or streams that one call takes
        self.most = most if limit == ANY_BATCH else min(most, limit)
        self.interval = self._open_framer().interval  # s between scores; an invalid step raises here
        self._states = open_store(streaming, self.most) if streaming else None
        self._count = self._created = 0

    def __len__(self) -> int:
        return self._count

    def create_stream(self, has_voice: Callable[[int], bool] | None = None) -> BatchedStream:
        """Add a stream with an empty window or state. `has_voice`: whether the window that ends at a sample position
        is to be scored; by default all are."""
        self._count, self._created = self._count + 1, self._created + 1
        row = self._states.add() if self._states else self._created
        return BatchedStream(self._open_framer(), row, has_voice)

    def remove(self, stream: BatchedStream) -> None:
        """Release the stream's state; a second call does nothing."""
        row = stream.row
        if stream.remove():
            self._count -= 1
            if self._states:
                self._states.remove(row)

    def is_ready(self, stream: BatchedStream) -> bool:
        """True if a window of the stream is due."""
        return stream.ready

    def decode_streams(self, streams: Iterable[BatchedStream]) -> None:
        """Run the model on the next window of each stream that is ready."""
        ready = [stream for stream in streams if stream.ready]
        ready.sort(key=lambda stream: stream.row)  # the same order every time: states stay where they are
        for start in range(0, len(ready), self.most):
            self._decode(ready[start : start + self.most])

    def decode_all(self, streams: Iterable[BatchedStream]) -> None:
        """Run the model until none of the streams is ready."""
        ready = [stream for stream in streams if stream.ready]
        while ready:
            self.decode_streams(ready)
            ready = [stream for stream in ready if stream.ready]

    def _decode(self, streams: list[BatchedStream]) -> None:
        due = [(stream, window) for stream in streams if (window := stream.next()) is not None]
        if not due:
            return
        streams, windows = [stream for stream, _ in due], [window for _, window in due]
        began = time.perf_counter()
        if self._states:
            rows, fresh = [stream.row for stream in streams], [stream.framer.fresh for stream in streams]
            logits = self._states.step(rows, fresh, [window[0, 0] for window in windows])
        else:
            try:
                logits = self._engine(windows[0] if len(windows) == 1 else np.concatenate(windows))
            except EngineAwayError as error:
                logits = [error] * len(streams)
        seconds = (time.perf_counter() - began) / len(streams)
        for stream, values in zip(streams, logits, strict=True):
            stream.receive(values, seconds)

    def get_result(self, stream: BatchedStream) -> list[Score]:
        """Return the scores since the last call; raise the stream's error after its last score."""
        return stream.result()

    def skip(self, stream: BatchedStream, samples: int) -> bool:
        """Insert a gap after what is due. True if it was so long that the window or state was reset."""
        self.decode_all([stream])
        return stream.framer.skip(samples)

    def finish(self, stream: BatchedStream, newest: bool = False) -> None:
        """End a clip and compute its last scores. Continue with `reset`, or with another stream.

        `newest`: a clip longer than a window gets a last score of its newest frames as well.
        """
        self.decode_all([stream])
        stream.end(newest)
        self.decode_all([stream])
