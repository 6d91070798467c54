"""CUDA by PyCUDA, whose objects release their memory themselves; it has no CUDA graphs."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda
from numpy.typing import NDArray
from pycuda import driver

from runtime.engines.cuda import FIRST_GPU, NON_BLOCKING, CudaError


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except driver.Error as error:
        raise CudaError(f"PyCUDA: {error}; python -m export.trt --device-check tests it") from error


def release(context: Any, owned: list[Any]) -> None:
    """Free memory and leave the context; PyCUDA itself would detach a primary context by a call for other ones."""
    while owned:
        call(owned.pop().free)
    call(context.detach)


class PyCuda:
    """The interface of runtime.engines.cuda, on the first GPU."""

    waiting = "unknown"  # PyCUDA does not return a context's flags

    def __init__(self) -> None:
        self.library = f"PyCUDA {pycuda.VERSION_TEXT}"
        call(driver.init)
        device = call(driver.Device, FIRST_GPU)
        self.gpu: str = call(device.name)
        self.capability = ".".join(map(str, call(device.compute_capability)))
        self._context = call(device.retain_primary_context)
        self._owned: list[Any] = []  # objects with free()
        self._release = weakref.finalize(self, release, self._context, self._owned)  # at the latest at exit
        try:
            with self.current():
                self._stream = call(driver.Stream, NON_BLOCKING)
        except CudaError:
            self.close()
            raise
        self.stream: int = self._stream.handle

    @contextmanager
    def current(self) -> Iterator[None]:
        call(self._context.push)
        try:
            yield
        finally:
            self._context.pop()  # PyCUDA aborts the process if a thread ends with a context that is still pushed

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        array: NDArray[np.float32] = call(driver.pagelocked_empty, shape, np.float32)
        self._owned.append(array.base)
        return array

    def allocate(self, size: int) -> int:
        self._owned.append(call(driver.mem_alloc, size))
        return int(self._owned[-1])

    def to_device(self, pointer: int, array: NDArray[np.float32]) -> None:
        call(driver.memcpy_htod_async, pointer, array, self._stream)

    def to_host(self, array: NDArray[np.float32], pointer: int) -> None:
        call(driver.memcpy_dtoh_async, array, pointer, self._stream)

    def synchronise(self) -> None:
        call(self._stream.synchronize)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        raise CudaError("PyCUDA has no CUDA graphs; cuda-python has")

    def event(self) -> Any:
        return call(driver.Event)

    def record(self, event: Any) -> None:
        call(event.record, self._stream)

    def elapsed(self, before: Any, after: Any) -> float:
        return float(call(after.time_since, before))

    def close(self) -> None:
        if hasattr(self, "_stream"):
            del self._stream  # its destructor needs the context
        self._release()
