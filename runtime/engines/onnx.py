"""The ONNX Runtime engine, which runs on every machine.

    engine = open_onnx("deploy/model.onnx")
    engine = open_onnx("deploy/model.onnx", provider="openvino")     # or an error: it never falls back to the CPU

It uses one thread by default: a window takes some milliseconds, and other programs can use the second core.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ANY_BATCH, ModelCard, read_card
from runtime.engines import Array, BatchBuffers, check_step, check_windows
from runtime.engines.io_binding import BoundBuffers, cannot_compute, reason
from runtime.engines.onnx_safety import check_standalone
from runtime.engines.providers import CPU, RECORD, find_provider, short, verify_provider
from runtime.engines.signature import check_signature, expected_signature
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

FATAL = 4  # ONNX Runtime's log level for errors that end the process; all others are raised as exceptions


def open_onnx(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> "OnnxEngine":
    """Open a model after its card and sha256 were checked."""
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, False for names that the system refuses
        raise ShrikeError(f"{path} does not exist; python -m export.onnx writes model.onnx and its card{nearby(path)}")
    card = read_card(path)  # before the file is read: it checks kind, size and sha256
    return OnnxEngine(path.read_bytes(), card, threads, provider)


class OnnxEngine:
    """One ONNX Runtime session on one execution provider. Not thread-safe."""

    def __init__(self, model: bytes, card: ModelCard, threads: int = 1, provider: str = "cpu") -> None:
        self.name: str = card.name
        self.precision: str = card.precision
        self.card, self.state, self.batch = card, card.state, card.input.shape[0]
        signed = card.target == "tensorrt"
        self._session, self.provider, self.placement = open_session(model, card.name, threads, provider, signed)
        check_signature(card, self._session.get_inputs(), self._session.get_outputs())
        if self.batch not in (1, ANY_BATCH):
            raise ShrikeError(f"{card.name}: batch {self.batch}; expected 1 or any (-1): export it again")

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (n, 2) of raw log power (n, 1, bands, 600)."""
        check_windows(self.card, features)
        return self._run([features])[0]

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (n, 1, bands, frames), states (n, *shape) -> logits (n, 2), next states."""
        check_step(self.card, features, states)
        logits, *after = self._run([features, *states])
        return logits, after

    def batch_buffers(self, count: int) -> BatchBuffers:
        """Allocate buffers for steps: bound arrays on the CPU, copies for providers with their own memory."""
        if self.provider == short(CPU) and (self.batch == ANY_BATCH or count == 1):
            return BoundBuffers(self._open_session(), self.step, self.card, count)
        return BatchBuffers(self.step, self.card, count)

    def _open_session(self) -> Any:
        if self._session is None:
            raise ShrikeError(f"{self.name} was closed; use an open engine")
        return self._session

    def _run(self, values: list[Array]) -> list[Array]:
        """Run the graph on its inputs (n, ...), row by row if its batch is 1, and check its outputs."""
        session, count = self._open_session(), len(values[0])
        inputs, outputs = expected_signature(self.card)
        found: list[Array] = [np.empty((count, *shape[1:]), kind) for shape, kind in outputs.values()]
        size = count if self.batch == ANY_BATCH else 1
        for start in range(0, count, max(1, size)):
            rows = slice(start, start + size)
            feeds = {name: value[rows] for name, value in zip(inputs, values, strict=True)}
            computed = compute(session, self.name, list(outputs), feeds)
            for name, value, whole in zip(outputs, computed, found, strict=True):
                form = whole[rows].shape, whole.dtype
                if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != form:
                    expected = "{} of {}".format(*form)
                    raise ShrikeError(f"{self.name}: output {name!a}: expected {expected}; export it again")
                whole[rows] = value
        return found

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> "OnnxEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_session(model: bytes, name: str, threads: int, provider: str, signed: bool = False) -> tuple[Any, str, str]:
    """Open a session; return it with its provider's short name and, unless that is the CPU, the nodes it took.

    A model for TensorRT is `signed`: its activations are S8. On a processor with AVX2 alone, ONNX Runtime's fused
    operators give other numbers for some of these (Res2Nets, by up to 0.6 in a logit); unfused ones do not.
    """
    import onnxruntime

    check_standalone(model, name)
    if threads < 0:
        raise ShrikeError(f"--threads {threads}: expected 0 or more; 0 leaves the number to ONNX Runtime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The plan would allocate all intermediate values as one block for the run's shapes: 2 MB (f0) and 9 MB (wide) more
    # than the arena needs without it, and no faster. Without the arena 11 MB more; without prepacked weights 5 MB more
    # and half as slow again.
    options.enable_mem_pattern = False
    options.log_severity_level = FATAL
    # Else bytes that begin as ONNX Runtime's own format would be read as that, which was not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if signed:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    chosen = find_provider(onnxruntime, provider)
    if chosen != CPU:
        onnxruntime.set_default_logger_severity(FATAL)  # the default logger reports providers that cannot be loaded
        options.add_session_config_entry(RECORD, "1")
    try:
        # By default a failing provider is replaced by the CPU, with a message on stdout.
        session = onnxruntime.InferenceSession(model, options, providers=[chosen], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        on = "" if chosen == CPU else f" with --provider {short(chosen)}"
        raise ShrikeError(
            f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it{on} ({reason(error)}); export it again"
        ) from error
    return session, short(chosen), "" if chosen == CPU else verify_provider(session, chosen)


def compute(session: Any, name: str, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
    try:
        values: list[Array] = session.run(outputs, feeds)
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        raise cannot_compute(name, error) from error
    return values
