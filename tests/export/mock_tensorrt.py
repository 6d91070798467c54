"""MOCKS of TensorRT and of our interface to CUDA. Nothing here computes what they compute.

`MockTensorRT(version)` has exactly the names that NVIDIA's bindings of that version have (tensorrt-api.tsv, rows of a
table taken from the bindings themselves): asking it for another one fails as the real module would. Behind the names it
records the calls. `MockCuda` has host memory in the place of device memory;
tests/runtime/engines/test_cuda.py tries the real libraries.
"""

import csv
import ctypes
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines.cuda import CudaError

TABLE = Path(__file__).with_name("tensorrt-api.tsv")
VERSIONS = ("8.5.3", "8.6.1", "10.3.0", "10.16.1", "11.4.0")
GPU, CAPABILITY = "Mock Orin", (8, 7)
MOST = 3  # largest batch of an engine with a dynamic one


def read_table(path: Path = TABLE) -> dict[str, dict[str, bool]]:
    """name -> version -> whether it is there."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["name"]: {key: value == "1" for key, value in row.items() if key != "name"} for row in rows}


class Value(int):
    """A member of an enumeration; its number means nothing, as NVIDIA's move between versions."""

    name = ""


def member(name: str) -> Value:
    value = Value(sum(map(ord, name)) % 23)
    value.name = name.rpartition(".")[2]
    return value


class Scope:
    """An enumeration: only the members that this version has."""

    def __init__(self, names: set[str], prefix: str) -> None:
        self._names, self._prefix, self._made = names, prefix, {}

    def __getattr__(self, name: str) -> Any:
        full = f"{self._prefix}.{name}"
        if full not in self._names:
            raise AttributeError(f"MOCK: no {full} in this version of TensorRT")
        return self._made.setdefault(name, member(full))


class Held:
    """An object of one of TensorRT's classes: only the attributes that this version has, answered by `parts`."""

    def __init__(self, names: set[str], kind: str, **parts: Any) -> None:
        self.__dict__.update(_names=names, _kind=kind, _parts=parts)

    def _check(self, name: str) -> None:
        if f"{self._kind}.{name}" not in self._names:
            raise AttributeError(f"MOCK: no {self._kind}.{name} in this version of TensorRT")

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        return self._parts[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        self._parts[name] = value


class MockTensorRT:
    """The module. `broken` names what fails, `calls` records what was set and built."""

    def __init__(
        self, version: str, broken: str = "", batch: int = -1, states: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    ) -> None:
        """`states` of a streaming engine: input, output, shape; it takes 16 frames, and adds to each state."""
        self.states, self.window = states, (1, 45, 16 if states else 600)
        self.names = {name for name, there in read_table().items() if there[version]}
        self.__version__, self.broken, self.batch = f"{version}.9", broken, batch
        self.calls: dict[str, Any] = {"flags": set(), "cleared": set(), "profiles": [], "cache": b"", "runs": 0}
        self.scopes = {
            name: Scope(self.names, name)
            for name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity")
            + ("TacticSource", "TensorIOMode", "DataType", "LayerInformationFormat")
        }
        scope = Scope(self.names, "ILogger.Severity")

        class ILogger:
            Severity = scope

            def __init__(self) -> None:
                pass

        self.ILogger = ILogger

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("scopes", {}) and name in self.names:
            return self.scopes[name]
        if name in self.__dict__.get("names", ()):
            return self.held(name)
        raise AttributeError(f"MOCK: no {name} in this version of TensorRT")

    def held(self, kind: str, **parts: Any) -> Held:
        return Held(self.names, kind, **parts)

    def complain(self, logger: Any, message: str) -> None:
        logger.log(self.ILogger.Severity.ERROR, f"MOCK {message}\n  at mock.cpp:1")

    # ---- building

    def Builder(self, logger: Any) -> Held:  # noqa: N802
        if self.broken == "gpu":
            self.complain(logger, "CUDA initialization failure")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return self.held(
            "Builder",
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: self.held(
                "IOptimizationProfile", set_shape=lambda *shapes: self.calls["profiles"].append(shapes)
            ),
            build_serialized_network=lambda network, config: self._build(logger),
        )

    def _network(self, flags: int) -> Held:
        self.calls["network flags"] = flags
        window = self.held("ITensor", name="features", shape=(self.batch, 1, 45, 600))
        return self.held("INetworkDefinition", get_input=lambda number: window, num_inputs=1)

    def _config(self) -> Held:
        return self.held(
            "IBuilderConfig",
            set_memory_pool_limit=lambda pool, size: self.calls.update({pool.name: size}),
            set_tactic_sources=lambda sources: self.calls.update(tactics=sources),
            set_flag=lambda flag: self.calls["flags"].add(flag.name),
            clear_flag=lambda flag: self.calls["cleared"].add(flag.name),
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=self._timing_cache,
            set_timing_cache=lambda cache, ignore: not (self.broken == "cache" and cache.serialize()) and not ignore,
        )

    def _timing_cache(self, data: bytes) -> Held:
        return self.held("ITimingCache", serialize=lambda: data)

    def _build(self, logger: Any) -> bytes | None:
        if self.broken == "build":
            self.complain(logger, "[graph.cpp::build::1] Error Code 2: OutOfMemory")
            self.complain(logger, "[graph.cpp::build::1] Error Code 2: OutOfMemory")
            return None
        return b"MOCK plan"

    def OnnxParser(self, network: Held, logger: Any) -> Held:  # noqa: N802
        def parse(data: bytes) -> bool:
            self.calls["graph"] = data
            return self.broken != "parse"

        error = self.held("ParserError", node=lambda: 7, desc=lambda: "MOCK unsupported\n data type", code=lambda: 6)
        return self.held("OnnxParser", parse=parse, num_errors=1, get_error=lambda number: error)

    # ---- running: logits are (0, sum of the window and all states), so that a test can follow its numbers; every state
    # comes out larger by the number of its place, from 1

    def Runtime(self, logger: Any) -> Held:  # noqa: N802
        if self.broken == "gpu":
            self.complain(logger, "CUDA initialization failure")
            raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize(plan: bytes) -> Held | None:
            if self.broken == "plan":
                self.complain(logger, "The engine plan file is not compatible with this version of TensorRT")
                return None
            return self._engine(logger)

        return self.held("Runtime", deserialize_cuda_engine=deserialize)

    def _engine(self, logger: Any) -> Held:
        modes = {"features": self.TensorIOMode.INPUT, "logits": self.TensorIOMode.OUTPUT}
        kind = self.DataType.HALF if self.broken == "type" else self.DataType.FLOAT
        names = ["features", "scores"] if self.broken == "names" else ["features", "logits"]
        shapes = {"features": (self.batch, *self.window), "logits": (self.batch, 2)}
        for source, target, shape in self.states:
            names += [source, target]
            modes |= {source: self.TensorIOMode.INPUT, target: self.TensorIOMode.OUTPUT}
            shapes |= {source: (self.batch, *shape), target: (self.batch, *shape)}
        if self.broken == "state":
            shapes[names[-1]] = (self.batch, 7)
        inspector = self.held(
            "EngineInspector", execution_context=None, get_engine_information=lambda form: '{"Layers": []}'
        )
        return self.held(
            "ICudaEngine",
            num_io_tensors=len(names),
            get_tensor_name=lambda number: names[number],
            get_tensor_mode=lambda name: modes.get(name, self.TensorIOMode.NONE),
            get_tensor_dtype=lambda name: kind,
            get_tensor_shape=lambda name: shapes[name],
            get_tensor_profile_shape=lambda name, profile: [(count, *shapes[name][1:]) for count in (1, MOST, MOST)],
            create_execution_context=lambda: None if self.broken == "context" else self._context(logger),
            create_engine_inspector=lambda: inspector,
        )

    def _context(self, logger: Any) -> Held:
        addresses: dict[str, int] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = {"features": self.window} | {source: shape for source, _, shape in self.states}

        def at(name: str, shape: tuple[int, ...]) -> Any:
            return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(addresses[name])).reshape(
                shape
            )

        def execute(stream: int) -> bool:
            if self.broken == "run":
                self.complain(logger, "enqueueV3 failed")
                return False

            (count,) = {shapes[name][0] for name in inputs}  # as it is now, also within a graph

            def kernel() -> None:
                self.calls["runs"] += 1
                values = {name: at(name, (count, *shape)).reshape(count, -1) for name, shape in inputs.items()}
                at("logits", (count, 2))[:, 0] = 0.0
                at("logits", (count, 2))[:, 1] = sum(value.sum(axis=1, dtype=np.float64) for value in values.values())
                for place, (source, target, shape) in enumerate(self.states, 1):
                    at(target, (count, *shape)).reshape(count, -1)[:] = values[source] + place

            MockCuda.newest.queue(kernel)
            return True

        def set_shape(name: str, shape: tuple[int, ...]) -> bool:
            shapes[name] = shape
            return shape[1:] == tuple(inputs[name]) and 1 <= shape[0] <= (MOST if self.batch == -1 else self.batch)

        return self.held(
            "IExecutionContext",
            set_input_shape=set_shape,
            set_tensor_address=lambda name, pointer: bool(addresses.update({name: pointer}) or True),
            execute_async_v3=execute,
        )


class MockCuda:
    """The interface of runtime.engines.cuda: device memory is host memory, and queued work runs at synchronisation, as
    late as it may. `newest` is the last one made; `failing` names the method that raises a CudaError."""

    newest: "MockCuda"
    library, gpu, capability, waiting, stream = "mock", GPU, ".".join(map(str, CAPABILITY)), "spin", 0x57

    def __init__(self, capturable: bool = True, failing: str = "") -> None:
        MockCuda.newest = self
        self.capturable, self.failing = capturable, failing
        self.memory: dict[int, Any] = {}  # address -> block
        self.waiting_work: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.events: list[int] = []  # the number of pieces of work that had run
        self.done, self.closed = 0, 0

    def _check(self, name: str) -> None:
        if name == self.failing:
            raise CudaError(f"MOCK {name} failed")

    def queue(self, work: Callable[[], None]) -> None:
        (self.waiting_work if self.captured is None else self.captured).append(work)

    def current(self) -> AbstractContextManager[None]:
        self._check("current")
        return nullcontext()

    def allocate(self, size: int) -> int:
        self._check("allocate")
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        self._check("pinned")
        count = math.prod(shape)
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.allocate(4 * count))).reshape(shape)

    def to_device(self, pointer: int, array: NDArray[np.float32]) -> None:
        assert pointer in self.memory and array.ctypes.data in self.memory, "pageable memory: the copy would block"
        self.queue(lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))

    def to_host(self, array: NDArray[np.float32], pointer: int) -> None:
        assert pointer in self.memory and array.ctypes.data in self.memory, "pageable memory: the copy would block"
        self.queue(lambda: ctypes.memmove(array.ctypes.data, pointer, array.nbytes))

    def synchronise(self) -> None:
        self._check("synchronise")
        assert self.captured is None, "synchronising breaks a capture"
        for work in self.waiting_work:
            work()
            self.done += 1
        self.waiting_work.clear()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        if not self.capturable:
            raise CudaError("MOCK no graphs")
        self.captured = []
        work()
        graph, self.captured = self.captured, None
        return lambda: self.waiting_work.extend(graph)

    # Work is numbered as it runs; an event records the number, which counts as milliseconds.

    def event(self) -> int:
        self.events.append(-1)
        return len(self.events) - 1

    def record(self, event: int) -> None:
        self.queue(lambda: self.events.__setitem__(event, self.done))

    def elapsed(self, before: int, after: int) -> float:
        assert min(self.events[before], self.events[after]) >= 0 and not self.waiting_work, "the events are not done"
        return float(self.events[after] - self.events[before])

    def close(self) -> None:
        self.memory.clear()
        self.closed += 1
