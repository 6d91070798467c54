"""CUDA by NVIDIA's cuda-python, whose functions are those of the driver and return a code and values."""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cuda.bindings
import numpy as np
from cuda.bindings import driver
from numpy.typing import NDArray

from runtime.engines.cuda import FIRST_GPU, NON_BLOCKING, CudaError
from runtime.support.errors import ShrikeError

LONGEST_NAME = 256  # bytes of a GPU's name
WAITING, WAITING_MASK = {0: "auto", 1: "spin", 2: "yield", 4: "block"}, 7  # CU_CTX_SCHED_*
MAJOR = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
MINOR = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
THREAD_LOCAL = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # other threads may use CUDA meanwhile


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the driver and return its value."""
    try:
        code, *values = function(*arguments)
    except RuntimeError as error:  # no driver, or one without this function
        reason = " ".join(str(error).split())
        raise CudaError(f"{function.__name__}: {reason}; expected NVIDIA's driver, as in JetPack") from error
    if code != driver.CUresult.CUDA_SUCCESS:
        raise CudaError(f"{function.__name__} failed: {code.name}; python -m export.trt --device-check tests it")
    return values[0] if values else None


class CudaPython:
    """The interface of runtime.engines.cuda, on the first GPU."""

    def __init__(self) -> None:
        self.library = f"cuda-python {cuda.bindings.__version__}"
        self._release: list[tuple[Callable[..., Any], Any]] = []  # newest last
        call(driver.cuInit, 0)
        device = call(driver.cuDeviceGet, FIRST_GPU)
        self.gpu = call(driver.cuDeviceGetName, LONGEST_NAME, device).partition(b"\0")[0].decode(errors="replace")
        self.capability = ".".join(str(call(driver.cuDeviceGetAttribute, part, device)) for part in (MAJOR, MINOR))
        self._context = call(driver.cuDevicePrimaryCtxRetain, device)
        self._release.append((driver.cuDevicePrimaryCtxRelease, device))
        try:
            with self.current():
                self.waiting = WAITING.get(int(call(driver.cuCtxGetFlags)) & WAITING_MASK, "unknown")
                self._stream = call(driver.cuStreamCreate, NON_BLOCKING)
        except CudaError:
            self.close()
            raise
        self._release.append((driver.cuStreamDestroy, self._stream))
        self.stream = int(self._stream)

    @contextmanager
    def current(self) -> Iterator[None]:
        call(driver.cuCtxSetCurrent, self._context)
        yield

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        count = math.prod(shape)
        address = call(driver.cuMemHostAlloc, max(1, 4 * count), 0)
        self._release.append((driver.cuMemFreeHost, address))
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(int(address))).reshape(shape)

    def allocate(self, size: int) -> int:
        pointer = call(driver.cuMemAlloc, size)
        self._release.append((driver.cuMemFree, pointer))
        return int(pointer)

    def to_device(self, pointer: int, array: NDArray[np.float32]) -> None:
        call(driver.cuMemcpyHtoDAsync, pointer, array.ctypes.data, array.nbytes, self._stream)

    def to_host(self, array: NDArray[np.float32], pointer: int) -> None:
        call(driver.cuMemcpyDtoHAsync, array.ctypes.data, pointer, array.nbytes, self._stream)

    def synchronise(self) -> None:
        call(driver.cuStreamSynchronize, self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        call(driver.cuStreamBeginCapture, self._stream, THREAD_LOCAL)
        failure = None
        try:
            work()
        except ShrikeError as error:
            failure = error
        graph = call(driver.cuStreamEndCapture, self._stream)  # in any case, or the stream stays unusable
        try:
            if failure is not None:
                raise CudaError(f"cannot be captured as a CUDA graph: {failure}")
            executable = call(driver.cuGraphInstantiate, graph, 0)
        finally:
            call(driver.cuGraphDestroy, graph)
        self._release.append((driver.cuGraphExecDestroy, executable))
        return lambda: call(driver.cuGraphLaunch, executable, self._stream)

    def event(self) -> Any:
        event = call(driver.cuEventCreate, 0)
        self._release.append((driver.cuEventDestroy, event))
        return event

    def record(self, event: Any) -> None:
        call(driver.cuEventRecord, event, self._stream)

    def elapsed(self, before: Any, after: Any) -> float:
        return float(call(driver.cuEventElapsedTime, before, after))

    def close(self) -> None:
        if self._release:
            with self.current():
                while self._release:
                    call(*self._release.pop())
