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

from runtime.card import ANY_BATCH, ModelCard, read_card
from runtime.engines.providers import CPU, RECORD, Placed, find_provider, short, verify_provider
from runtime.engines.selfcontained import check_selfcontained
from runtime.errors import ShrikeError

SILENT = 4  # ONNX Runtime's log level for what ends the process; all else that goes wrong comes as an exception
LONGEST = 300  # characters of one of its messages that go into ours


def open_onnx(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> "OnnxEngine":
    """The model whose card vouches for it."""
    path = Path(path)
    if not os.path.isfile(path):  # False for names that no system takes, too
        raise ShrikeError(f"{path} does not exist; python -m export.onnx writes model.onnx and its card")
    return OnnxEngine(path.read_bytes(), read_card(path), threads, provider)


class OnnxEngine:
    """One session of ONNX Runtime, by one of its execution providers. Not thread-safe."""

    def __init__(self, model: bytes, card: ModelCard, threads: int = 1, provider: str = "cpu") -> None:
        self.name: str = card.name
        self.precision: str = card.precision
        self.card = card
        self._session, self.provider, self.placed = open_session(model, card.name, threads, provider)
        session = self._session
        # A port that is no tensor has no shape.
        ports = [(port.name, list(port.shape or ())) for port in (*session.get_inputs(), *session.get_outputs())]
        wanted = [(port.name, list(port.shape)) for port in (card.input, card.output)]
        one = card.input.shape[0] in (1, ANY_BATCH)
        fits = (
            one
            and len(ports) == 2
            and all(
                name == expected and shape[1:] == sizes[1:]
                for (name, shape), (expected, sizes) in zip(ports, wanted, strict=True)
            )
        )
        if not fits:
            raise ShrikeError(f"{card.name}: the graph has {ports}, its card says {wanted}; export the model again")

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (n, 1, bands, 600) -> logits (n, 2); one by one where the graph takes one at a time."""
        if self._session is None:
            raise ShrikeError(f"{self.name} was closed")
        if features.ndim != 4 or features.shape[1:] != self.card.input.shape[1:] or features.dtype != np.float32:
            raise ShrikeError(
                f"features {features.shape} of {features.dtype} came; {('n', *self.card.input.shape[1:])} of float32 "
                "was expected: is this the card's front-end?"
            )
        if self.card.input.shape[0] in (ANY_BATCH, len(features)):
            return self._run(features)
        logits = np.empty((len(features), self.card.output.shape[1]), np.float32)
        for place, window in enumerate(features):
            logits[place] = self._run(window[None])[0]
        return logits

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = compute(self._session, self.name, [self.card.output.name], {self.card.input.name: features})
        wanted = (len(features), self.card.output.shape[1])
        if not isinstance(logits, np.ndarray) or logits.shape != wanted or logits.dtype != np.float32:
            raise ShrikeError(f"{self.name}: the graph does not give {wanted} logits of float32; export it again")
        return logits

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> "OnnxEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(model: bytes, name: str, threads: int, provider: str) -> tuple[Any, str, Placed | None]:
    """A session on one graph, its provider's short name, and what a provider other than the CPU took of it."""
    import onnxruntime

    check_selfcontained(model, name)
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
            f"{name}: ONNX Runtime {onnxruntime.__version__} refuses it{on} ({_reason(error)})"
        ) from error
    return session, short(chosen), None if chosen == CPU else verify_provider(session, chosen)


def compute(session: Any, name: str, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[Any]:
    """A damaged graph may load, and only fail or give something else when it computes."""
    try:
        values: list[Any] = session.run(outputs, feeds)
    except Exception as error:  # its exceptions have no common base but this
        raise ShrikeError(f"{name}: ONNX Runtime cannot compute it ({_reason(error)}); export it again") from error
    return values


def _reason(error: Exception) -> str:
    """ONNX Runtime's own words on one line; names out of a damaged file may be anything."""
    first = (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]
    return first if first.isprintable() else ascii(first)
