"""States of many streams, and steps for those that are due.

    store = StateStore(engine, most=16)
    row = store.add()
    logits = store.step([row], [True], [features])          # True: start from the initial states
    store.remove(row)

Each state of the network is one array with a row for each stream. A step needs its rows contiguous in the buffers of a
prepared call. If the same streams are due again, their states are still in the buffers, and nothing is copied; this is
always so with a single stream.

    rows       [s0 s1 s2 s3 s4 s5 ...]    by stream
    buffers    [s1 s4 s5]                 features, states -> logits, next states
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines import StreamingEngine, initial_states

ROOM = 4  # rows at first; doubled when they are full


def open_store(engine: StreamingEngine, most: int) -> Any:
    """Return the states of streams: an engine's own store, or one of this module."""
    own = getattr(engine, "open_store", None)
    return own(most) if own else StateStore(engine, most)


class StateStore:
    """Rows of streams. Not thread-safe."""

    def __init__(self, engine: StreamingEngine, most: int) -> None:
        """`most`: streams in one step."""
        self._buffers = engine.batch_buffers(most)
        self._initial = [state[0] for state in initial_states(engine.state, 1)]
        self._rows = [np.empty((0, *state.shape), state.dtype) for state in self._initial]
        self._free: list[int] = []  # rows without a stream
        self._loaded: list[int] = []  # rows whose newest states are in the buffers

    def add(self) -> int:
        """Return a row for a new stream; its first step must start from the initial states."""
        if not self._free:
            count = len(self._rows[0])
            room = max(ROOM, count)
            self._rows = [np.concatenate([rows, np.empty((room, *rows.shape[1:]), rows.dtype)]) for rows in self._rows]
            self._free = list(range(count + room - 1, count - 1, -1))
        return self._free.pop()

    def remove(self, row: int) -> None:
        """Free a stream's row."""
        if row in self._loaded:
            self._unload()
        self._free.append(row)

    def step(
        self, rows: list[int], fresh: Sequence[bool], features: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Compute a step of the streams in `rows`: their features (bands, frames) -> logits (n, 2)."""
        if rows != self._loaded:
            self._unload()
            for stored, buffer in zip(self._rows, self._buffers.states, strict=True):
                np.take(stored, rows, axis=0, out=buffer[: len(rows)], mode="clip")  # the other modes allocate
            self._loaded = rows
        for place, (is_fresh, new) in enumerate(zip(fresh, features, strict=True)):
            self._buffers.features[place, 0] = new
            if is_fresh:
                for initial, buffer in zip(self._initial, self._buffers.states, strict=True):
                    buffer[place] = initial
        return self._buffers.run(len(rows))

    def _unload(self) -> None:
        for stored, buffer in zip(self._rows, self._buffers.states, strict=True):
            stored[self._loaded] = buffer[: len(self._loaded)]
        self._loaded = []
