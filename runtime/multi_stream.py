"""Many streams through one network, several in every call; they come and go when they like.

    pool = StreamBatcher(engine, card.frontend)
    stream = pool.join()
    stream.push(samples)                         # any number of samples, at any time; nothing is computed
    for stream in pool.run():                    # all that is due, in as few calls as possible
        for score in stream.scores():
            print(score.time, score.value)
    stream.leave()

A network that is given whole windows and one that remembers are served alike (runtime.engines.state_store keeps what it remembers).
Whoever brings samples that are none hears of it at once, and nobody else does. A stream whose score is not finite has a
`fault` and takes no further part until it is reset; the others get their scores.
"""

import time

import numpy as np

from runtime.audio.features import FrontEnd, Samples
from runtime.audio.framer import Hearing, Score
from runtime.card.schema import ANY_BATCH
from runtime.engines import Engine, as_streaming, batch_limit
from runtime.engines.state_store import StateStore
from runtime.support.errors import ShrikeError

MOST = 16  # streams in one call: more gain nothing, and what a call needs besides the weights grows with them
MOST_WINDOWS = 4  # the same for whole windows, which need 2 to 9 MB each while they are computed


class StreamBatcher:
    """Not thread-safe: one thread pushes and runs. The engine is the caller's, and not closed."""

    def __init__(self, engine: Engine, frontend: FrontEnd, step: int | None = None, most: int | None = None) -> None:
        """`step`: frames between a stream's scores; `most`: streams in one call."""
        self.frontend, self.step = frontend, step
        self._engine, self._stepping = engine, as_streaming(engine)
        most = (MOST if self._stepping else MOST_WINDOWS) if most is None else most
        if most < 1:
            raise ShrikeError(f"{most} streams in one call: at least 1 was expected")
        limit = batch_limit(engine)
        self.most = most if limit == ANY_BATCH else min(most, limit)
        self.interval = self._hearing().interval  # s between scores; what the step cannot be is said now
        self._memory = StateStore(self._stepping, self.most) if self._stepping else None
        self._streams: dict[BatchedStream, None] = {}
        self._called: dict[BatchedStream, None] = {}  # those that have something due

    def _hearing(self) -> Hearing:
        return Hearing(self.frontend, self.step, self._stepping.state.frames if self._stepping else None)

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def state_bytes(self) -> int:
        """What the network remembers of one stream."""
        return self._memory.bytes if self._memory else 0

    def join(self) -> "BatchedStream":
        """A new stream, from a clean state."""
        stream = BatchedStream(self, self._hearing(), self._memory.join() if self._memory else len(self._streams))
        self._streams[stream] = None
        return stream

    def run(self) -> "list[BatchedStream]":
        """Everything that is due, of all streams; those that have news: scores, or a fault."""
        called, self._called = self._called, {}
        return self._run(called)

    # ---- for its streams

    def _run(self, called: "dict[BatchedStream, None]") -> "list[BatchedStream]":
        news: dict[BatchedStream, None] = {}
        while due := [stream for stream in called if stream._is_due()]:
            due.sort(key=lambda stream: stream._row)  # the same streams in the same order keep their buffers
            for start in range(0, len(due), self.most):
                self._call(due[start : start + self.most])
            news |= {stream: None for stream in due if stream._scores or stream.fault}
            called = dict.fromkeys(due)
        return list(news)

    def _call(self, streams: "list[BatchedStream]") -> None:
        began = time.perf_counter()
        hearings = [stream._hearing for stream in streams]
        if self._memory:
            rows, fresh = [stream._row for stream in streams], [hearing.fresh for hearing in hearings]
            logits = self._memory.step(rows, fresh, [hearing.features for hearing in hearings])
        elif len(hearings) == 1:
            logits = self._engine(hearings[0].features[None, None])
        else:
            logits = self._engine(np.stack([hearing.features for hearing in hearings])[:, None])
        spent = (time.perf_counter() - began) / len(streams)
        for stream, (spoof, bonafide) in zip(streams, logits.tolist(), strict=True):
            stream.spent += spent
            stream._answer(spoof, bonafide)

    def _drop(self, stream: "BatchedStream") -> None:
        del self._streams[stream]
        self._called.pop(stream, None)
        if self._memory:
            self._memory.leave(stream._row)


class BatchedStream:
    """One stream of a pool. Scores, bit for bit, do not hang on how its samples are cut, nor on who else is there."""

    def __init__(self, pool: StreamBatcher, hearing: Hearing, row: int) -> None:
        """By StreamBatcher.join."""
        self._pool, self._hearing, self._row = pool, hearing, row
        self._scores: list[Score] = []
        self.frontend, self.interval = hearing.frontend, hearing.interval
        self.spent = 0.0  # s of work for this stream since somebody set it to 0: features, its share of calls
        self.fault: ShrikeError | None = None  # why it takes no further part
        self._left = False

    @property
    def heard(self) -> int:
        """Samples since the stream began, those in holes included."""
        return self._hearing.heard

    @property
    def until_due(self) -> int:
        """Samples until the network is due: whoever pushes no more than these gets at most one score, just in time."""
        return self._hearing.until_due

    def push(self, samples: Samples) -> None:
        """New samples (n,), full scale 1. Too loud is cut; what is no number is refused, and not heard."""
        self._check()
        self._hearing.listen(samples)
        if self._hearing.ready:
            self._pool._called[self] = None

    def scores(self) -> list[Score]:
        """Those that came since this was last asked."""
        scores, self._scores = self._scores, []
        return scores

    def settle(self) -> None:
        """Compute what is due of this stream alone, now."""
        self._pool._called.pop(self, None)
        self._pool._run({self: None})

    def skip(self, samples: int) -> bool:
        """A hole of that many samples: no frame spans it. True if the window had to begin again."""
        self._check()
        self.settle()
        return self._hearing.skip(samples)

    def finish(self) -> None:
        """The end of a clip: one that is shorter than a window gets the score that offline evaluation gives it, at
        once. What comes then begins with `reset`, or is another stream."""
        self._check()
        self.settle()
        if score := self._hearing.finish():
            self._scores.append(score)
        self.settle()

    def reset(self) -> None:
        """Begin anew here, as after a long hole; time goes on, scores that nobody took and a fault are forgotten."""
        self._hearing.reset()
        self._scores, self.fault = [], None
        self._pool._called.pop(self, None)

    def leave(self) -> None:
        """Give back its place; a second call does nothing."""
        if not self._left:
            self._left = True
            self._pool._drop(self)

    def _check(self) -> None:
        if self._left:
            raise ShrikeError("this stream has left its pool: join() gives a new one")
        if self.fault:
            raise self.fault

    def _is_due(self) -> bool:
        if self.fault:
            return False
        began = time.perf_counter()
        due = self._hearing.due()
        self.spent += time.perf_counter() - began
        return due

    def _answer(self, spoof: float, bonafide: float) -> None:
        try:
            score = self._hearing.answer(spoof, bonafide)
        except ShrikeError as error:
            self.fault = ShrikeError(f"the model {self._pool._engine.name} {error}")
            return
        if score:
            self._scores.append(score)
