"""The few CUDA calls an engine needs, straight from the driver's library: no pycuda to compile, the same on every CUDA.

    cuda = open_cuda()                         # or a ShrikeError that says what is missing
    window = cuda.pinned((1, 1, 45, 600))      # numpy array in page-locked memory
    pointer = cuda.allocate(window.nbytes)
    cuda.to_device(pointer, window)            # queued on cuda.stream
    cuda.synchronise()

libcuda comes with NVIDIA's driver, on a Jetson with JetPack. Its functions keep their ABI: `_v2` names since CUDA 4,
stream capture since 10.1, graphs with flags since 11.4; JetPack 5.1 has 11.4.
"""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError

LIBRARY = "libcuda.so.1"
FIRST_GPU = 0
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: never waits for the legacy default stream, which capture forbids
CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may use CUDA meanwhile
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
# CU_CTX_SCHED_*: how a thread waits. "auto" spins while there are fewer contexts than cores; a Jetson may block.
WAITING, WAITING_MASK = {0: "auto", 1: "spin", 2: "yield", 4: "block"}, 7
LONGEST_NAME = 256  # bytes of a GPU's name

Handle, Size, Whole = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
Pointer = ctypes.c_uint64  # CUdeviceptr
Out = ctypes.POINTER

SIGNATURES: dict[str, list[Any]] = {
    "cuInit": [ctypes.c_uint],
    "cuDeviceGet": [Out(Whole), Whole],
    "cuDeviceGetName": [ctypes.c_char_p, Whole, Whole],
    "cuDeviceGetAttribute": [Out(Whole), Whole, Whole],
    "cuDevicePrimaryCtxRetain": [Out(Handle), Whole],
    "cuDevicePrimaryCtxRelease_v2": [Whole],
    "cuCtxSetCurrent": [Handle],
    "cuStreamCreate": [Out(Handle), ctypes.c_uint],
    "cuStreamDestroy_v2": [Handle],
    "cuStreamSynchronize": [Handle],
    "cuMemAlloc_v2": [Out(Pointer), Size],
    "cuMemFree_v2": [Pointer],
    "cuMemHostAlloc": [Out(Handle), Size, ctypes.c_uint],
    "cuMemFreeHost": [Handle],
    "cuMemcpyHtoDAsync_v2": [Pointer, Handle, Size, Handle],
    "cuMemcpyDtoHAsync_v2": [Handle, Pointer, Size, Handle],
    "cuStreamBeginCapture_v2": [Handle, Whole],
    "cuStreamEndCapture": [Handle, Out(Handle)],
    "cuGraphInstantiateWithFlags": [Out(Handle), Handle, ctypes.c_ulonglong],
    "cuGraphLaunch": [Handle, Handle],
    "cuGraphExecDestroy": [Handle],
    "cuGraphDestroy": [Handle],
    "cuEventCreate": [Out(Handle), ctypes.c_uint],
    "cuEventRecord": [Handle, Handle],
    "cuEventElapsedTime": [Out(ctypes.c_float), Handle, Handle],
    "cuEventDestroy_v2": [Handle],
    "cuCtxGetFlags": [Out(ctypes.c_uint)],
    "cuGetErrorString": [Whole, Out(ctypes.c_char_p)],
}


class CudaError(ShrikeError):
    """A CUDA call failed: which one, and the driver's words for it."""


def open_cuda(library: Any = None) -> "Cuda":
    """The first GPU, with a stream of its own; `library` stands in for libcuda in tests."""
    if library is None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f"no NVIDIA driver found ({LIBRARY} cannot be loaded); it comes with JetPack") from error
    for name, arguments in SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise CudaError(f"this NVIDIA driver lacks {name}: CUDA 11.4 or newer is needed, as in JetPack 5.1")
        function.argtypes, function.restype = arguments, Whole
    return Cuda(library)


class Cuda:
    """One GPU's primary context, one stream, and the memory that was asked for; close() gives everything back.

    Not thread-safe. TensorRT works in whatever context is current, hence `enter` before anything of it is called.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._freeing: list[tuple[str, Any]] = []  # what close() undoes, newest first
        device, value, context, stream = Whole(), Whole(), Handle(), Handle()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), FIRST_GPU)
        name = ctypes.create_string_buffer(LONGEST_NAME)
        self._call("cuDeviceGetName", name, LONGEST_NAME, device)
        self.gpu = name.value.decode(errors="replace")
        versions = []
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            versions.append(value.value)
        self.capability = ".".join(map(str, versions))  # 8.7 on Orin
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._freeing.append(("cuDevicePrimaryCtxRelease_v2", device))
        self._context = context
        self.enter()
        try:
            self._call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        except CudaError:
            self.close()
            raise
        self._freeing.append(("cuStreamDestroy_v2", stream))
        self._stream = stream

    @property
    def stream(self) -> int:
        """The stream as TensorRT wants it."""
        return int(self._stream.value or 0)

    @property
    def waiting(self) -> str:
        """Mode in which a thread waits for the GPU."""
        flags = ctypes.c_uint()
        self._call("cuCtxGetFlags", ctypes.byref(flags))
        return WAITING.get(flags.value & WAITING_MASK, "unknown")

    def enter(self) -> None:
        """Make this GPU's context the calling thread's."""
        self._call("cuCtxSetCurrent", self._context)

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A float32 array in page-locked memory, from which copies run beside the CPU; gone after close()."""
        address, count = Handle(), math.prod(shape)
        self._call("cuMemHostAlloc", ctypes.byref(address), max(1, 4 * count), 0)
        self._freeing.append(("cuMemFreeHost", address))
        memory = (ctypes.c_float * count).from_address(int(address.value or 0))
        return np.ctypeslib.as_array(memory).reshape(shape)

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes, as its address."""
        pointer = Pointer()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), size)
        self._freeing.append(("cuMemFree_v2", pointer))
        return pointer.value

    def to_device(self, pointer: int, array: NDArray[np.float32]) -> None:
        self._call("cuMemcpyHtoDAsync_v2", pointer, array.ctypes.data, array.nbytes, self._stream)

    def to_host(self, array: NDArray[np.float32], pointer: int) -> None:
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, pointer, array.nbytes, self._stream)

    def synchronise(self) -> None:
        """Wait until all that was queued is done."""
        self._call("cuStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work that `work` queues as one graph; CudaError where that is impossible."""
        graph, executable, failure = Handle(), Handle(), None
        self._call("cuStreamBeginCapture_v2", self._stream, CAPTURE_THREAD_LOCAL)
        try:
            work()
        except ShrikeError as error:
            failure = error
        try:  # ends the capture in any case, or the stream would stay useless
            self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
            if failure is not None:
                raise CudaError(f"cannot be captured as a CUDA graph: {failure}")
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        finally:
            if graph.value:
                self._call("cuGraphDestroy", graph)
        self._freeing.append(("cuGraphExecDestroy", executable))
        return lambda: self._call("cuGraphLaunch", executable, self._stream)

    def event(self) -> ctypes.c_void_p:
        """A mark for the stream, with a clock."""
        event = Handle()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        self._freeing.append(("cuEventDestroy_v2", event))
        return event

    def record(self, event: ctypes.c_void_p) -> None:
        """Let the GPU note the time when all that was queued so far is done."""
        self._call("cuEventRecord", event, self._stream)

    def elapsed(self, before: ctypes.c_void_p, after: ctypes.c_void_p) -> float:
        """Milliseconds between two recorded events, both of them over."""
        value = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(value), before, after)
        return value.value

    def close(self) -> None:
        """Give back what was taken, newest first; a second call does nothing."""
        if self._freeing:
            self.enter()
        while self._freeing:
            self._call(*self._freeing.pop())

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            words = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(words))
            raise CudaError(f"{name} failed: {(words.value or b'unknown error').decode(errors='replace')} ({code})")
