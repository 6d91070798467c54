"""CUDA for the TensorRT engine, by PyCUDA or NVIDIA's cuda-python: PyCUDA if both are installed.

    cuda = open_cuda()                             # or a ShrikeError that says what is missing
    with cuda.current():
        window = cuda.pinned((1, 1, 45, 600))      # numpy array in page-locked memory
        pointer = cuda.allocate(window.nbytes)
        cuda.to_device(pointer, window)            # queued on cuda.stream
        cuda.synchronise()

PyCUDA has no CUDA graphs. With it, an engine queues its copies and kernels one by one.
"""

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError

FIRST_GPU = 0
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: independent of the legacy default stream, as a capture requires
INSTALL = (  # the major version of cuda-bindings must be that of the driver's CUDA; PyCUDA is compiled for it
    "JetPack 6: pip install 'cuda-bindings==12.*'; JetPack 7: pip install 'cuda-bindings==13.*'; "
    "on both: PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
)


class CudaError(ShrikeError):
    """A CUDA call failed, or no CUDA library is installed."""


class Cuda(Protocol):
    """One GPU's primary context, one stream, and memory; close() releases everything. Not thread-safe."""

    library: str  # PyCUDA 2026.1, cuda-python 13.0.3
    gpu: str  # Orin
    capability: str  # 8.7
    waiting: str  # how a thread waits for the GPU: auto, spin, yield, block or unknown
    stream: int  # for TensorRT

    def current(self) -> AbstractContextManager[None]:
        """Make this GPU's context the calling thread's current one, which TensorRT and all methods but close() need."""
        ...

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Allocate a float32 array in page-locked memory, for asynchronous copies; invalid after close()."""
        ...

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes of device memory and return the address."""
        ...

    def to_device(self, pointer: int, array: NDArray[np.float32]) -> None:
        """Queue a copy."""

    def to_host(self, array: NDArray[np.float32], pointer: int) -> None:
        """Queue a copy."""

    def synchronise(self) -> None:
        """Wait until all queued work is done."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture what `work` queues as a CUDA graph and return its launch; CudaError if that is impossible."""
        ...

    def event(self) -> Any:
        """Create an event with a time."""

    def record(self, event: Any) -> None:
        """Queue an event: it takes the GPU's time when all work before it is done."""

    def elapsed(self, before: Any, after: Any) -> float:
        """Return the milliseconds between two recorded events that are done."""
        ...

    def close(self) -> None:
        """Release memory, stream and context; a second call does nothing."""


LIBRARIES = {  # package -> our module, its class
    "pycuda": ("runtime.engines.cuda_pycuda", "PyCuda"),
    "cuda": ("runtime.engines.cuda_python", "CudaPython"),
}


def open_cuda(library: str | None = None) -> Cuda:
    """Open the first GPU with the first installed library, or with the one of package `library`."""
    for package in (library,) if library else LIBRARIES:
        module, name = LIBRARIES[package]
        try:
            opened: Cuda = getattr(importlib.import_module(module), name)()
            return opened
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != package:
                raise
        except ImportError as error:  # PyCUDA is linked with libcuda.so.1, which the driver installs
            raise CudaError(f"{package}: {error}; expected NVIDIA's driver, as in JetPack") from error
    raise CudaError(f"no CUDA library for Python: expected PyCUDA or cuda-python; {INSTALL}")


def installed() -> str:
    """Name the CUDA libraries of this Python and explain how to install them."""
    found = [package for package in LIBRARIES if importlib.util.find_spec(package)]
    names = " and ".join({"pycuda": "PyCUDA", "cuda": "cuda-python"}[package] for package in found)
    return f"CUDA for Python: {names or 'none is'} installed; {INSTALL}"
