"""The TensorRT engine.

    with open_tensorrt("deploy/model.engine") as engine:
        logits = engine(features)                # (n, 1, bands, 600) float32 -> (n, 2): spoof, bona fide

It needs the version of TensorRT that built the engine, and a GPU of the same model. The card records both and is
checked before TensorRT is loaded. Only the I/O tensor API is used, which TensorRT 8.5 to 11 share.

    windows -> pinned memory -> device -> engine -> device -> pinned memory -> logits
               '-------- one stream, captured as one CUDA graph for each batch --------'

An engine with a dynamic batch computes up to `batch` windows or streams at once, the largest number it was built for.
A batch is filled up to the next power of two, so that there are few graphs.

The states of a streaming model are further inputs and outputs: each step copies some 70 KB a stream both ways, so that
any stream can take the next step.
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ANY_BATCH, ModelCard, read_card
from runtime.engines import Array, BatchBuffers, check_step, check_windows, initial_states
from runtime.engines.cuda import Cuda, open_cuda
from runtime.engines.jetpack import load_tensorrt
from runtime.engines.signature import Forms, expected_signature
from runtime.support.errors import ShrikeError

LAST_ERRORS = 3  # of TensorRT that an error of ours repeats: the first names the cause
LONGEST = 300  # characters of each
MOST = 2  # place of the largest shape in a profile: smallest, fastest, largest
BUILD_HERE = "an engine runs only where it was built: run python -m export.trt MODEL.onnx on this device"


def error_logger(trt: Any) -> Any:
    """Create a TensorRT logger that stores the last errors: 8.x logs the reason of a failure and returns None."""

    class Errors(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=LAST_ERRORS)
            self.worst = {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}

        def log(self, severity: Any, message: str) -> None:
            if severity in self.worst:
                self.errors.append(" ".join(message.split())[:LONGEST])

        def one_line(self) -> str:
            return "; ".join(dict.fromkeys(self.errors)) or "TensorRT gave no reason"

    return Errors()


def open_runtime(trt: Any, logger: Any) -> Any:
    """Create TensorRT's Runtime; without a GPU its factory returns null, which Python raises as a TypeError."""
    try:
        return trt.Runtime(logger)
    except TypeError as error:
        raise ShrikeError(f"TensorRT {trt.__version__} found no usable GPU ({logger.one_line()})") from error


def open_tensorrt(path: str | os.PathLike[str]) -> "TensorRTEngine":
    """Open the engine at `path`, after its card and sha256, TensorRT's version and the GPU were checked."""
    card = read_card(path)
    trt = load_tensorrt()
    cuda = open_cuda()
    if differences := card.check_tensorrt(trt.__version__, cuda.gpu, cuda.capability):
        cuda.close()
        raise ShrikeError(f"{path} does not fit this machine: {'; '.join(differences)}; {BUILD_HERE}")
    return TensorRTEngine(Path(path).read_bytes(), card, trt, cuda)


@dataclass(frozen=True)
class DeviceTimes:
    """Times by the GPU's events, for benchmarks."""

    milliseconds: dict[str, tuple[float, ...]]  # of each run: launch; to device, compute, to host
    graph: bool  # whether a launch is one CUDA graph
    waiting: str  # how a thread waits for the GPU: auto, spin, yield, block


class TensorRTEngine:
    """One execution context. One thread must call and close it."""

    def __init__(self, plan: bytes, card: ModelCard, trt: Any, cuda: Cuda) -> None:
        """`plan` is the serialised engine. This object owns `cuda` and closes it."""
        self.name, self.card, self.state = card.name, card, card.state
        self.precision: str = card.tensorrt.precision if card.tensorrt else card.precision
        self._cuda = cuda
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._logger = error_logger(trt)  # TensorRT stores a bare pointer to it
        try:
            with cuda.current():
                self._load(plan, trt)
                inputs, outputs = expected_signature(card)
                self._check_tensors(inputs, outputs, trt)
                self._connect(inputs, outputs)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes, trt: Any) -> None:
        self._runtime = open_runtime(trt, self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ShrikeError(
                f"TensorRT {trt.__version__} refuses this engine ({self._logger.one_line()}); {BUILD_HERE}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ShrikeError(f"no memory to run this engine ({self._logger.one_line()}); stop other programs")

    def _connect(self, inputs: Forms, outputs: Forms) -> None:
        """Allocate host and device memory, bind it to the engine, and capture a run of one as a CUDA graph."""
        self.batch = self._largest_batch(self.card.input.name)  # windows or streams in one run
        self._inputs = [self._cuda.pinned((self.batch, *shape[1:])) for shape, _ in inputs.values()]
        self._outputs = [self._cuda.pinned((self.batch, *shape[1:])) for shape, _ in outputs.values()]
        for array in self._inputs:
            array[:] = 0.0
        self._to = [self._cuda.allocate(array.nbytes) for array in self._inputs]
        self._from = [self._cuda.allocate(array.nbytes) for array in self._outputs]
        for name, pointer in zip((*inputs, *outputs), (*self._to, *self._from), strict=True):
            self._context.set_tensor_address(name, pointer)
        self._names, self._size = tuple(inputs), 0  # the batch that the context's shapes have
        self._launches: dict[int, Callable[[], None]] = {}  # by batch
        self.graph = True  # copies and kernels are one launch
        self._prepare(1)

    def _largest_batch(self, name: str) -> int:
        """Return the largest batch of the engine's profile, 1 for an engine without a dynamic batch."""
        if self._engine.get_tensor_shape(name)[0] != ANY_BATCH:
            return 1
        return int(self._engine.get_tensor_profile_shape(name, 0)[MOST][0])

    def _resize(self, size: int) -> None:
        """Set the context's shapes for a batch."""
        if size == self._size:
            return
        for name, array in zip(self._names, self._inputs, strict=True):
            if not self._context.set_input_shape(name, (size, *array.shape[1:])):
                raise ShrikeError(f"the engine refuses the shape {(size, *array.shape[1:])} of {name}; {BUILD_HERE}")
        self._size = size

    def _prepare(self, size: int) -> None:
        """Capture a run of a batch of this size as a CUDA graph, where the library has them."""
        self._resize(size)
        self.queue()  # in its first run with new shapes TensorRT allocates, which a capture must not contain
        self._cuda.synchronise()
        try:
            self._launches[size] = self._cuda.capture(self.queue)
        except ShrikeError:
            self.graph, self._launches[size] = False, self.queue

    def _launch(self, count: int) -> None:
        """Queue a run of at least `count` windows or streams."""
        size = min(1 << (count - 1).bit_length(), self.batch)
        if size not in self._launches:
            self._prepare(size)
        if not self.graph:
            self._resize(size)
        self._launches[size]()

    def _check_tensors(self, inputs: Forms, outputs: Forms, trt: Any) -> None:
        """Compare names, directions, types and output shapes with the card; set_input_shape checks input shapes."""
        engine = self._engine
        if odd := [name for name, (_, kind) in inputs.items() if kind != "float32"]:
            raise ShrikeError(f"the state {odd[0]}: expected float32: export with --target tensorrt")
        modes = dict.fromkeys(inputs, trt.TensorIOMode.INPUT) | dict.fromkeys(outputs, trt.TensorIOMode.OUTPUT)
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        found = {name: engine.get_tensor_mode(name) for name in names}
        if found != modes:
            raise ShrikeError(f"the engine's tensors: {', '.join(names)}; expected {', '.join(modes)}; {BUILD_HERE}")
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                kind = engine.get_tensor_dtype(name).name
                raise ShrikeError(f"the engine's {name} is {kind}; expected FLOAT; {BUILD_HERE}")
        for name, (wanted, _) in outputs.items():
            shape = list(engine.get_tensor_shape(name))
            if shape[1:] != wanted[1:]:
                raise ShrikeError(f"the engine's {name} is {shape}; expected {wanted}; {BUILD_HERE}")

    def queue(self) -> None:
        """Queue copy in, run and copy out on the stream."""
        for part in self._parts():
            part()

    def _parts(self) -> tuple[Callable[[], None], ...]:
        """Return the three GPU operations of one run with the context's shapes."""

        def compute() -> None:
            if not self._context.execute_async_v3(self._cuda.stream):
                raise ShrikeError(f"TensorRT could not run the engine ({self._logger.one_line()})")

        def copy_in() -> None:
            for pointer, array in zip(self._to, self._inputs, strict=True):
                self._cuda.to_device(pointer, array[: self._size])

        def copy_out() -> None:
            for pointer, array in zip(self._from, self._outputs, strict=True):
                self._cuda.to_host(array[: self._size], pointer)

        return copy_in, compute, copy_out

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (n, 2) of raw log power (n, 1, bands, frames), up to `batch` windows at once."""
        check_windows(self.card, features)
        return self._run(features, [])[0]

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (n, 1, bands, frames), states (n, *shape) -> logits (n, 2), next states; up to `batch` at once."""
        check_step(self.card, features, states)
        logits, *after = self._run(features, states)
        return logits, after

    def batch_buffers(self, count: int) -> BatchBuffers:
        """Allocate buffers for steps, which are copied to pinned memory and back."""
        return BatchBuffers(self.step, self.card, count)

    def _run(self, features: NDArray[np.float32], states: list[Array]) -> list[Array]:
        if self._context is None:
            raise ShrikeError(f"{self.name} was closed; use an open engine")
        found: list[Array] = [np.empty((len(features), *array.shape[1:]), np.float32) for array in self._outputs]
        with self._cuda.current():
            for start in range(0, len(features), self.batch):
                rows = slice(start, min(start + self.batch, len(features)))
                count = rows.stop - start
                for array, value in zip(self._inputs, (features, *states), strict=True):
                    array[:count] = value[rows]
                self._launch(count)
                self._cuda.synchronise()
                for values, array in zip(found, self._outputs, strict=True):
                    values[rows] = array[:count]
        return found

    def device_times(self, features: NDArray[np.float32], runs: int) -> DeviceTimes:
        """Time one window by the GPU's events: as launched in a stream, and each part without the graph."""
        self._run(features[:1], initial_states(self.state, 1) if self.state else [])  # copies it to pinned memory
        found: dict[str, list[float]] = {"launch": [], "to device": [], "compute": [], "to host": []}
        self._resize(1)
        plans = ((("launch",), (self._launches[1],)), (("to device", "compute", "to host"), self._parts()))
        with self._cuda.current():
            events = [self._cuda.event() for _ in range(4)]
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
        """Return the engine inspector's JSON."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context  # without it formats are "N/A due to dynamic shapes"
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Release the GPU, in this order: each object needs the next. A second call does nothing."""
        if self._runtime is not None:
            with self._cuda.current():
                self._context = self._engine = self._runtime = None
        self._cuda.close()

    def __enter__(self) -> "TensorRTEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
