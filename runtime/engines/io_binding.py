"""Steps of ONNX Runtime on arrays that are bound once: a run allocates, looks up and copies nothing.

    buffers = BoundBuffers(session, card, count=16)
    buffers.features[0, 0] = frames                # (bands, n)
    logits = buffers.run(1)

The states have two banks of arrays: a step reads one and writes the other. With 24 states a call by names costs 41 us,
of which a part copies their 138 KB, and a bound one 11 us; the step of a small network takes 300 us.

    step 1     a --network--> b
    step 2     b --network--> a
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ModelCard
from runtime.engines import BatchBuffers, Step, initial_states
from runtime.support.errors import ShrikeError

LONGEST = 300  # characters of an ONNX Runtime message that an error repeats


class BoundBuffers(BatchBuffers):
    """Buffers for up to `count` streams on the CPU."""

    def __init__(self, session: Any, step: Step, card: ModelCard, count: int) -> None:
        super().__init__(step, card, count)
        assert card.state is not None
        self._session, self._card, self._tensors = session, card, card.state.tensors
        self._logits: NDArray[np.float32] = np.zeros((count, *card.output.shape[1:]), np.float32)
        self._next = initial_states(card.state, count)  # the bank that the next run writes
        self._bindings: dict[tuple[int, int], Any] = {}  # by streams and bank

    def run(self, count: int) -> NDArray[np.float32]:
        binding = self._bindings.get((count, id(self.states))) or self._bind(count)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no other common base
            raise cannot_compute(self._card.name, error) from error
        self.states, self._next = self._next, self.states
        return self._logits[:count].copy()

    def _bind(self, count: int) -> Any:
        """Bind the first `count` rows of every array; they are contiguous."""
        inputs = [(self._card.input.name, self.features)]
        inputs += [(tensor.input, array) for tensor, array in zip(self._tensors, self.states, strict=True)]
        outputs = [(self._card.output.name, self._logits)]
        outputs += [(tensor.output, array) for tensor, array in zip(self._tensors, self._next, strict=True)]
        binding = self._session.io_binding()
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, array in arrays:
                bind(name, "cpu", 0, array.dtype.type, (count, *array.shape[1:]), array.ctypes.data)
        self._bindings[count, id(self.states)] = binding
        return binding


def cannot_compute(name: str, error: Exception) -> ShrikeError:
    """Error of a run: a damaged graph may load and fail only here."""
    return ShrikeError(f"{name}: ONNX Runtime cannot compute it ({reason(error)}); export it again")


def reason(error: Exception) -> str:
    """Shorten ONNX Runtime's message to one printable line; it may quote names of a damaged file."""
    first = (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]
    return first if first.isprintable() else ascii(first)
