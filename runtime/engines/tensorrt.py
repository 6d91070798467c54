"""A TensorRT engine behind the same protocol as every other: engine(features) -> logits.

    with open_tensorrt("deploy/model.engine") as engine:
        logits = engine(features)                # (n, 1, bands, 600) float32 -> (n, 2): spoof, bona fide

Needs the tensorrt module of the very version that built the engine, and a GPU of the same model; the card beside it
says which, and is asked before TensorRT is. Only the I/O tensor API is used, which 8.5 to 11 have in common.

    window -> pinned memory -> device -> engine -> device -> pinned memory -> logits
              '------------ one stream, captured once as one CUDA graph ------------'
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card import ModelCard, read_card
from runtime.engines.cuda import Cuda, open_cuda
from runtime.errors import ShrikeError
from runtime.jetpack import load_tensorrt

KEPT = 3  # last errors of TensorRT that go into one of ours: the first names the cause, the others repeat it
LONGEST = 300  # characters of one of them
BUILD_HERE = (
    "an engine runs only where it was built: python -m export.trt MODEL.onnx on this device makes one that does"
)


def keep_errors(trt: Any) -> Any:
    """A logger for TensorRT whose `errors` are the last ones: 8.x only logs what went wrong and returns None."""

    class Errors(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT)
            self.worst = {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}

        def log(self, severity: Any, message: str) -> None:
            if severity in self.worst:
                self.errors.append(" ".join(message.split())[:LONGEST])

        def one_line(self) -> str:
            return "; ".join(dict.fromkeys(self.errors)) or "TensorRT gave no reason"

    return Errors()


def open_runtime(trt: Any, logger: Any) -> Any:
    """TensorRT's Runtime; without a GPU its factory returns nothing, which Python sees as a TypeError."""
    try:
        return trt.Runtime(logger)
    except TypeError as error:
        raise ShrikeError(f"TensorRT {trt.__version__} found no GPU it can use ({logger.one_line()})") from error


def open_tensorrt(path: str | os.PathLike[str]) -> "TensorRTEngine":
    """The engine at `path`: card and hash first, then version and GPU, then the engine itself."""
    card = read_card(path)
    trt = load_tensorrt()
    cuda = open_cuda()
    if differences := card.check_tensorrt(trt.__version__, cuda.gpu, cuda.capability):
        cuda.close()
        raise ShrikeError(f"{path} does not fit this machine: {'; '.join(differences)}; {BUILD_HERE}")
    return TensorRTEngine(Path(path).read_bytes(), card, trt, cuda)


@dataclass(frozen=True)
class DeviceTimes:
    """What a GPU's own events say about an engine, for benchmarks."""

    milliseconds: dict[str, tuple[float, ...]]  # run by run: launch; to device, compute, to host
    graph: bool  # whether a launch is one CUDA graph
    waiting: str  # how the driver lets a thread wait: auto, spin, yield, block


class TensorRTEngine:
    """One engine, one execution context, one window at a time. Not thread-safe: one thread calls it, and closes it."""

    def __init__(self, plan: bytes, card: ModelCard, trt: Any, cuda: Cuda) -> None:
        """`plan` is what TensorRT serialised; the CUDA context is this object's from now on, and closed with it."""
        self.name, self.card = card.name, card
        self.precision: str = card.tensorrt.precision if card.tensorrt else card.precision
        self._cuda = cuda
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._logger = keep_errors(trt)  # TensorRT keeps a bare pointer to it
        try:
            cuda.enter()
            self._load(plan, trt)
            self._check_tensors(card, trt)
            self._connect(card)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes, trt: Any) -> None:
        self._runtime = open_runtime(trt, self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ShrikeError(
                f"TensorRT {trt.__version__} does not take this engine ({self._logger.one_line()}); {BUILD_HERE}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ShrikeError(f"TensorRT has no memory to run this engine ({self._logger.one_line()})")

    def _connect(self, card: ModelCard) -> None:
        """Memory on both sides of the copies, the engine's addresses, and the graph of one run."""
        window, logits = (1, *card.input.shape[1:]), (1, *card.output.shape[1:])
        self._window, self._logits = self._cuda.pinned(window), self._cuda.pinned(logits)
        self._window[:] = 0.0
        self._device = (self._cuda.allocate(self._window.nbytes), self._cuda.allocate(self._logits.nbytes))
        if not self._context.set_input_shape(card.input.name, window):
            raise ShrikeError(f"this engine does not take the shape {window}; build it with python -m export.trt")
        for name, pointer in zip((card.input.name, card.output.name), self._device, strict=True):
            self._context.set_tensor_address(name, pointer)
        self.queue()  # TensorRT allocates in its first run, which a capture may not see
        self._cuda.synchronise()
        self.graph = True  # copies and kernels in one launch
        try:
            self._launch = self._cuda.capture(self.queue)
        except ShrikeError:
            self.graph, self._launch = False, self.queue

    def _check_tensors(self, card: ModelCard, trt: Any) -> None:
        """Names, directions and types are the card's; shapes are held by set_input_shape."""
        engine = self._engine
        modes = {card.input.name: trt.TensorIOMode.INPUT, card.output.name: trt.TensorIOMode.OUTPUT}
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        found = {name: engine.get_tensor_mode(name) for name in names}
        if found != modes:
            raise ShrikeError(f"the engine's tensors are {', '.join(names)}; the card says {', '.join(modes)}")
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                kind = engine.get_tensor_dtype(name).name
                raise ShrikeError(f"the engine's {name} is {kind}; FLOAT was expected: build it with export.trt")
        shape = tuple(engine.get_tensor_shape(card.output.name))
        if shape[1:] != card.output.shape[1:]:
            raise ShrikeError(f"the engine's {card.output.name} is {shape}; the card says {card.output.shape}")

    def queue(self) -> None:
        """Copy in, run, copy out: onto the stream, without waiting."""
        for part in self._parts():
            part()

    def _parts(self) -> tuple[Callable[[], None], ...]:
        """The three things that one window needs of the GPU."""

        def compute() -> None:
            if not self._context.execute_async_v3(self._cuda.stream):
                raise ShrikeError(f"TensorRT could not run the engine ({self._logger.one_line()})")

        return (
            lambda: self._cuda.to_device(self._device[0], self._window),
            compute,
            lambda: self._cuda.to_host(self._logits, self._device[1]),
        )

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (n, 1, bands, frames) -> logits (n, 2), window after window."""
        if self._context is None:
            raise ShrikeError(f"the engine {self.name} was closed")
        if features.ndim != 4 or features.shape[1:] != self._window.shape[1:] or features.dtype != np.float32:
            wanted = ("n", *self._window.shape[1:])
            raise ShrikeError(
                f"features {features.shape} of {features.dtype} came; {wanted} of float32 was expected: "
                "is this the card's front-end?"
            )
        self._cuda.enter()
        logits = np.empty((len(features), self._logits.shape[1]), np.float32)
        for number, window in enumerate(features):
            self._window[0] = window
            self._launch()
            self._cuda.synchronise()
            logits[number] = self._logits[0]
        return logits

    def device_times(self, features: NDArray[np.float32], runs: int) -> DeviceTimes:
        """The GPU's own clock around one window: launched as in a stream, and part by part without the graph."""
        self(features[:1])  # checks it, and leaves it in pinned memory
        events = [self._cuda.event() for _ in range(4)]
        found: dict[str, list[float]] = {"launch": [], "to device": [], "compute": [], "to host": []}
        plans = ((("launch",), (self._launch,)), (("to device", "compute", "to host"), self._parts()))
        for number in range(runs * len(plans)):
            names, parts = plans[number % len(plans)]
            self._cuda.record(events[0])
            for part, event in zip(parts, events[1:], strict=False):
                part()
                self._cuda.record(event)
            self._cuda.synchronise()
            for name, before, after in zip(names, events, events[1:], strict=False):
                found[name].append(self._cuda.elapsed(before, after))
        return DeviceTimes({name: tuple(values) for name, values in found.items()}, self.graph, self._cuda.waiting)

    def layers(self, trt: Any) -> str:
        """What the engine inspector knows, as its JSON."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context  # or formats are "N/A due to dynamic shapes"
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Give the GPU back; in this order, because each part lives in the next. A second call does nothing."""
        self._context = self._engine = self._runtime = None
        self._cuda.close()

    def __enter__(self) -> "TensorRTEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
