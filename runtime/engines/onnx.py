"""ONNX Runtime: the engine that runs everywhere.

    engine = open_onnx("deploy/model.onnx")
    engine = open_onnx("deploy/model.onnx", provider="openvino")     # or an error: never the CPU in its place

One thread by default: a window takes some milliseconds, and a second core is worth more to whatever else the device
does.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ANY_BATCH, ModelCard, read_card
from runtime.engines import Array, BatchBuffers, CopyingBuffers, check_step
from runtime.engines.io_binding import BoundBuffers, reason
from runtime.engines.onnx_safety import check_standalone
from runtime.engines.providers import CPU, RECORD, Placement, find_provider, short, verify_provider
from runtime.engines.signature import check_signature, expected_signature
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

SILENT = 4  # ONNX Runtime's log level for what ends the process; all else that goes wrong comes as an exception


def open_onnx(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> "OnnxEngine":
    """The model whose card vouches for it."""
    path = Path(path)
    if not os.path.isfile(path):  # False for names that no system takes, too
        raise ShrikeError(f"{path} does not exist; python -m export.onnx writes model.onnx and its card{nearby(path)}")
    return OnnxEngine(path.read_bytes(), read_card(path), threads, provider)


class OnnxEngine:
    """One session of ONNX Runtime, by one of its execution providers. Not thread-safe."""

    def __init__(self, model: bytes, card: ModelCard, threads: int = 1, provider: str = "cpu") -> None:
        self.name: str = card.name
        self.precision: str = card.precision
        self.card, self.state, self.batch = card, card.state, card.input.shape[0]
        self._session, self.provider, self.placed = open_session(model, card.name, threads, provider)
        session = self._session
        check_signature(card, session.get_inputs(), session.get_outputs())
        if self.batch not in (1, ANY_BATCH):
            raise ShrikeError(
                f"{card.name}: its graph takes {self.batch} at a time; one or any number was expected: export it again"
            )

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (n, 1, bands, 600) -> logits (n, 2); one by one where the graph takes one at a time."""
        self._check_open()
        if self.state is not None:
            raise ShrikeError(
                f"{self.name} remembers: it is given {self.state.frames} new frames a step, not windows: use step()"
            )
        if features.ndim != 4 or features.shape[1:] != self.card.input.shape[1:] or features.dtype != np.float32:
            raise ShrikeError(
                f"features {features.shape} of {features.dtype} came; {('n', *self.card.input.shape[1:])} of float32 "
                "was expected: is this the card's front-end?"
            )
        if self.batch in (ANY_BATCH, len(features)):
            return self._run({self.card.input.name: features})[0]
        logits = np.empty((len(features), self.card.output.shape[1]), np.float32)
        for place, window in enumerate(features):
            logits[place] = self._run({self.card.input.name: window[None]})[0]
        return logits

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (n, 1, bands, frames), states (n, *shape) -> logits (n, 2) and the states after them."""
        self._check_open()
        assert self.state is not None, "a network that is given windows has no steps"
        check_step(self.card, features, states)
        names = [self.card.input.name, *(tensor.input for tensor in self.state.tensors)]
        if self.batch in (ANY_BATCH, len(features)):
            logits, *after = self._run(dict(zip(names, (features, *states), strict=True)))
            return logits, after
        rows = [
            self._run({name: value[row : row + 1] for name, value in zip(names, (features, *states), strict=True)})
            for row in range(len(features))
        ]
        logits, *after = (np.concatenate(values) for values in zip(*rows, strict=True))
        return logits, after

    def batch_buffers(self, count: int) -> BatchBuffers:
        """By arrays bound once where the CPU computes; another provider would not see what is written into them."""
        self._check_open()
        if self.provider == short(CPU) and (self.batch == ANY_BATCH or count == 1):
            return BoundBuffers(self._session, self.card, count)
        return CopyingBuffers(self.step, self.card, count)

    def _check_open(self) -> None:
        if self._session is None:
            raise ShrikeError(f"{self.name} was closed; give an open one")

    def _run(self, values: dict[str, Array]) -> list[Array]:
        """A damaged graph may load, and only fail or give something else when it computes."""
        wanted = expected_signature(self.card)[1]
        count = len(values[self.card.input.name])
        found = compute(self._session, self.name, list(wanted), values)
        for value, (name, (shape, kind)) in zip(found, wanted.items(), strict=True):
            size, what = (count, *shape[1:]), "logits" if name == self.card.output.name else f"{name!a}"
            if not isinstance(value, np.ndarray) or value.shape != size or value.dtype != kind:
                raise ShrikeError(f"{self.name}: the graph does not give {size} {what} of {kind}; export it again")
        return list(found)

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> "OnnxEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(model: bytes, name: str, threads: int, provider: str) -> tuple[Any, str, Placement | None]:
    """A session on one graph, its provider's short name, and what a provider other than the CPU took of it."""
    import onnxruntime

    check_standalone(model, name)
    if threads < 0:
        raise ShrikeError(f"{threads} threads: a number above 0 was expected, or 0 for ONNX Runtime's own choice")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # One block for all intermediate values, planned for the run's shapes: 2 MB (f0) and 9 MB (wide) more than the
    # arena needs without the plan, and no faster. No arena at all would be 11 MB more, weights that are not packed
    # beforehand 5 MB more and half as slow again.
    options.enable_mem_pattern = False
    options.log_severity_level = SILENT
    chosen = find_provider(onnxruntime, provider)
    if chosen != CPU:
        onnxruntime.set_default_logger_severity(SILENT)  # a provider that cannot be loaded is logged there
        options.add_session_config_entry(RECORD, "1")
    try:
        # Without enable_fallback=0 a provider that fails is exchanged for the CPU, and that is printed to stdout.
        session = onnxruntime.InferenceSession(model, options, providers=[chosen], enable_fallback=0)
    except Exception as error:  # its exceptions have no common base but this
        on = "" if chosen == CPU else f" with --provider {short(chosen)}"
        raise ShrikeError(
            f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it{on} ({reason(error)}); export it again"
        ) from error
    return session, short(chosen), None if chosen == CPU else verify_provider(session, chosen)


def compute(session: Any, name: str, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
    """A damaged graph may load, and only fail or give something else when it computes."""
    try:
        values: list[Array] = session.run(outputs, feeds)
    except Exception as error:  # its exceptions have no common base but this
        raise ShrikeError(f"{name}: ONNX Runtime cannot compute it ({reason(error)}); export it again") from error
    return values
