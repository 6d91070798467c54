"""A TensorRT engine behind the same protocol as every other: engine(features) -> logits.

    with open_tensorrt("deploy/model.engine") as engine:
        logits = engine(features)                # (n, 1, bands, 600) float32 -> (n, 2): spoof, bona fide

Needs the tensorrt module of the very version that built the engine, and a GPU of the same model; the card beside it
says which, and is asked before TensorRT is. Only the I/O tensor API is used, which 8.5 to 11 have in common.

    window -> pinned memory -> device -> engine -> device -> pinned memory -> logits
              '------------ one stream, captured once as one CUDA graph ------------'

What a network that remembers keeps of a stream goes the same way, in beside the features and out beside the logits: a
step copies its states both ways, some 70 KB, so that any stream can take the next one.
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

from runtime.card.model_card import ModelCard, read_card
from runtime.engines import Array, BatchBuffers, CopyingBuffers, check_step, initial_states
from runtime.engines.cuda import Cuda, open_cuda
from runtime.engines.jetpack import load_tensorrt
from runtime.support.errors import ShrikeError

KEPT = 3  # last errors of TensorRT that go into one of ours: the first names the cause, the others repeat it
LONGEST = 300  # characters of one of them
BUILD_HERE = (
    "an engine runs only where it was built: python -m export.trt MODEL.onnx on this device makes one that does"
)


def error_logger(trt: Any) -> Any:
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
    """One engine, one execution context, one window or stream at a time. Not thread-safe: one thread calls it, and
    closes it."""

    batch = 1

    def __init__(self, plan: bytes, card: ModelCard, trt: Any, cuda: Cuda) -> None:
        """`plan` is what TensorRT serialised; the CUDA context is this object's from now on, and closed with it."""
        self.name, self.card, self.state = card.name, card, card.state
        self.precision: str = card.tensorrt.precision if card.tensorrt else card.precision
        self._cuda = cuda
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._logger = error_logger(trt)  # TensorRT keeps a bare pointer to it
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
        states = card.state.tensors if card.state else ()
        inputs = {card.input.name: card.input.shape[1:], **{tensor.input: tensor.shape for tensor in states}}
        outputs = {card.output.name: card.output.shape[1:], **{tensor.output: tensor.shape for tensor in states}}
        self._inputs, self._outputs = (
            [self._cuda.pinned((1, *shape)) for shape in part.values()] for part in (inputs, outputs)
        )
        for array in self._inputs:
            array[:] = 0.0
        self._to, self._from = (
            [self._cuda.allocate(array.nbytes) for array in part] for part in (self._inputs, self._outputs)
        )
        for name, array in zip(inputs, self._inputs, strict=True):
            if not self._context.set_input_shape(name, array.shape):
                raise ShrikeError(
                    f"this engine does not take the shape {array.shape} as {name}; build it with python -m export.trt"
                )
        for name, pointer in zip((*inputs, *outputs), (*self._to, *self._from), strict=True):
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
        engine, states = self._engine, card.state.tensors if card.state else ()
        if odd := [tensor.input for tensor in states if tensor.type != "float32"]:
            raise ShrikeError(f"the state {odd[0]} is no float32, as TensorRT's are: export it with --target tensorrt")
        modes = dict.fromkeys((card.input.name, *(tensor.input for tensor in states)), trt.TensorIOMode.INPUT)
        outputs = {card.output.name: card.output.shape[1:], **{tensor.output: tensor.shape for tensor in states}}
        modes |= dict.fromkeys(outputs, trt.TensorIOMode.OUTPUT)
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        found = {name: engine.get_tensor_mode(name) for name in names}
        if found != modes:
            raise ShrikeError(
                f"the engine's tensors are {', '.join(names)}; the card says {', '.join(modes)}; {BUILD_HERE}"
            )
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                kind = engine.get_tensor_dtype(name).name
                raise ShrikeError(f"the engine's {name} is {kind}; FLOAT was expected: build it with export.trt")
        for name, wanted in outputs.items():
            shape = tuple(engine.get_tensor_shape(name))
            if shape[1:] != wanted:
                raise ShrikeError(f"the engine's {name} is {shape}; the card says {(shape[0], *wanted)}; {BUILD_HERE}")

    def queue(self) -> None:
        """Copy in, run, copy out: onto the stream, without waiting."""
        for part in self._parts():
            part()

    def _parts(self) -> tuple[Callable[[], None], ...]:
        """The three things that one window needs of the GPU."""

        def compute() -> None:
            if not self._context.execute_async_v3(self._cuda.stream):
                raise ShrikeError(f"TensorRT could not run the engine ({self._logger.one_line()})")

        def copy_in() -> None:
            for pointer, array in zip(self._to, self._inputs, strict=True):
                self._cuda.to_device(pointer, array)

        def copy_out() -> None:
            for pointer, array in zip(self._from, self._outputs, strict=True):
                self._cuda.to_host(array, pointer)

        return copy_in, compute, copy_out

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (n, 1, bands, frames) -> logits (n, 2), window after window."""
        if self.state is not None:
            raise ShrikeError(
                f"{self.name} remembers: it is given {self.state.frames} new frames a step, not windows: use step()"
            )
        return self._run(features, [])[0]

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (n, 1, bands, frames), states (n, *shape) -> logits (n, 2) and the states after them, stream
        after stream."""
        check_step(self.card, features, states)
        logits, *after = self._run(features, states)
        return logits, after

    def batch_buffers(self, count: int) -> BatchBuffers:
        """One stream after the other: nothing is gained by sitting together but the Python of a call."""
        return CopyingBuffers(self.step, self.card, count)

    def _run(self, features: NDArray[np.float32], states: list[Array]) -> list[Array]:
        if self._context is None:
            raise ShrikeError(f"the engine {self.name} was closed; give an open one")
        shape = self._inputs[0].shape[1:]
        if features.ndim != 4 or features.shape[1:] != shape or features.dtype != np.float32:
            raise ShrikeError(
                f"features {features.shape} of {features.dtype} came; {('n', *shape)} of float32 was expected: "
                "is this the card's front-end?"
            )
        self._cuda.enter()
        found: list[Array] = [np.empty((len(features), *array.shape[1:]), np.float32) for array in self._outputs]
        for row in range(len(features)):
            for array, value in zip(self._inputs, (features, *states), strict=True):
                array[0] = value[row]
            self._launch()
            self._cuda.synchronise()
            for kept, array in zip(found, self._outputs, strict=True):
                kept[row] = array[0]
        return found

    def device_times(self, features: NDArray[np.float32], runs: int) -> DeviceTimes:
        """The GPU's own clock around one window: launched as in a stream, and part by part without the graph."""
        self._run(features[:1], initial_states(self.state, 1) if self.state else [])  # leaves it in pinned memory
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
