"""What a network remembers of many streams, and the step that renews it for those whose turn it is.

    store = StateStore(engine, most=16)
    row = store.join()
    logits = store.step([row], [True], [features])          # True: from the beginning
    store.leave(row)

One array for each of the network's states, a row a stream. A step needs its rows side by side: they are copied into the
buffers of a prepared call, and back when others are to sit there. Streams that are due together again stay seated, and
nothing is copied; a stream that is alone always does.

    kept     [s0 s1 s2 s3 s4 s5 ...]      rows by stream
    buffers    [s1 s4 s5]                   features -> logits, before -> after -> before
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.engines import StreamingEngine, initial_states

ROOM = 4  # rows to begin with; doubled when they are full


class StateStore:
    """Rows of streams. Not thread-safe, as its engine."""

    def __init__(self, engine: StreamingEngine, most: int) -> None:
        """`most`: streams in one step."""
        self._seats = engine.batch_buffers(most)
        self._begin = [state[0] for state in initial_states(engine.state, 1)]
        self._kept = [np.empty((0, *state.shape), state.dtype) for state in self._begin]
        self._free: list[int] = []  # rows without a stream
        self._seated: list[int] = []  # whose states are in the buffers, newer than what is kept

    @property
    def bytes(self) -> int:
        """Of one stream."""
        return sum(state.nbytes for state in self._begin)

    def join(self) -> int:
        """A row of one's own; what lies in it is somebody else's until the first step from the beginning."""
        if not self._free:
            rows = len(self._kept[0])
            room = max(ROOM, rows)
            self._kept = [np.concatenate([kept, np.empty((room, *kept.shape[1:]), kept.dtype)]) for kept in self._kept]
            self._free = list(range(rows + room - 1, rows - 1, -1))
        return self._free.pop()

    def leave(self, row: int) -> None:
        if row in self._seated:
            self._stand_up()
        self._free.append(row)

    def step(
        self, rows: list[int], fresh: Sequence[bool], features: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The streams of these rows take a step: their features (bands, frames) -> logits (n, 2)."""
        if rows != self._seated:
            self._stand_up()
            for kept, buffers in zip(self._kept, self._seats.states, strict=True):
                np.take(kept, rows, axis=0, out=buffers[: len(rows)], mode="clip")  # the other modes buffer
            self._seated = rows
        for seat, (begins, new) in enumerate(zip(fresh, features, strict=True)):
            self._seats.features[seat, 0] = new
            if begins:
                for begin, buffers in zip(self._begin, self._seats.states, strict=True):
                    buffers[seat] = begin
        return self._seats.run(len(rows))

    def _stand_up(self) -> None:
        for kept, buffers in zip(self._kept, self._seats.states, strict=True):
            kept[self._seated] = buffers[: len(self._seated)]
        self._seated = []
