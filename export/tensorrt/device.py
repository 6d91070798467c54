"""Find TensorRT and the GPU of this machine; where they are missing, explain how to build elsewhere.

device = find_device()              # or a NoDeviceError with what is missing and how to get it
print("\\n".join(device.lines()))
print(trtexec(job))
"""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from export.tensorrt.builder import MIB, BuildJob
from runtime.card.model_card import ANY_BATCH
from runtime.engines.cuda import Cuda, CudaError, open_cuda
from runtime.engines.jetpack import jetpack, l4t, load_tensorrt, memory_available
from runtime.support.errors import ShrikeError

OLDEST = (8, 5)  # TensorRT whose runtime has the I/O tensor API
SPARE = 1024  # MiB that TensorRT takes beside its workspace: libraries, kernels, two copies of the weights
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where JetPack puts it


class NoDeviceError(ShrikeError):
    """No engine can be built here: TensorRT or the GPU is missing."""


@dataclass(frozen=True)
class BuildDevice:
    """A machine that can build engines."""

    trt: Any  # the tensorrt module
    cuda: Cuda
    version: str
    l4t: str | None
    memory: int | None  # MiB free

    def lines(self) -> list[str]:
        """Describe the machine."""
        jetson = f", L4T {self.l4t}" if self.l4t else ""
        free = f"{self.memory:,} MiB of memory are free" if self.memory is not None else "free memory unknown"
        gpu = f"GPU {self.cuda.gpu} (compute capability {self.cuda.capability})"
        return [f"TensorRT {self.version}, {gpu}, {self.cuda.library}{jetson}", free]

    def warnings(self, workspace: int) -> list[str]:
        """Warn of too little free memory for a workspace in MiB."""
        if self.memory is None or self.memory >= workspace + SPARE:
            return []
        wanted = f"{workspace + SPARE:,} MiB"
        return [f"warning: below {wanted} a build may run out of memory; end other programs, or lower --workspace"]


def find_device() -> BuildDevice:
    """Find TensorRT and the GPU of this machine; raise NoDeviceError for what is missing."""
    try:
        trt = load_tensorrt()
    except ShrikeError as error:
        raise NoDeviceError(str(error)) from error
    version = str(trt.__version__)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise NoDeviceError(f"TensorRT {version} is too old: expected 8.5 or newer, as in JetPack 5.1 and later")
    try:
        cuda = open_cuda()
    except CudaError as error:
        raise NoDeviceError(f"TensorRT {version} is installed, but no GPU can be used: {error}") from error
    return BuildDevice(trt, cuda, version, l4t(), memory_available())


def trtexec(job: BuildJob, strongly_typed: bool = False) -> str:
    """Return the trtexec command that builds the same engine; `strongly_typed`: for TensorRT 11."""
    build, card = job.build, job.card
    options = [f"--onnx={job.path}", f"--saveEngine={job.target}", f"--memPoolSize=workspace:{build.workspace}"]
    if not strongly_typed:
        options += {"int8": ["--int8", "--fp16"], "fp16": ["--fp16"], "fp32": []}[build.precision]
        options.append("--tacticSources=-CUDNN,-CUBLAS,-CUBLAS_LT")
    if build.precision == "fp32":
        options.append("--noTF32")
    if card.input.shape[0] == ANY_BATCH:
        states = [(tensor.input, tensor.shape) for tensor in card.state.tensors] if card.state else []
        ports = [(card.input.name, card.input.shape[1:]), *states]
        most = build.streams
        ends = {"minShapes": 1, "optShapes": most, "maxShapes": most} if most > 1 else {"shapes": 1}
        for end, count in ends.items():
            sizes = (f"{name}:{'x'.join(map(str, (count, *shape)))}" for name, shape in ports)
            options.append(f"--{end}={','.join(sizes)}")
    if build.timing_cache:
        options.append(f"--timingCacheFile={build.timing_cache}")
    return shlex.join([TRTEXEC, *options, "--profilingVerbosity=detailed"])


def advice(reason: NoDeviceError, job: BuildJob) -> str:
    """Explain what is done, what is missing, how to get it, and how to build with trtexec."""
    version = l4t()
    row = jetpack(version) if version else None
    lines = [
        f"{job.path} and its card are ready ({job.path.stat().st_size / MIB:.2f} MiB), but no engine was built here.",
        str(reason),
        f"Build on the device that runs it, without torch: python -m export.trt {shlex.quote(str(job.path))}",
        f"or with TensorRT's own tool: {trtexec(job)}",
        "Then --built FILE of this command, on the device, verifies trtexec's engine and writes its card.",
    ]
    if job.build.precision != "fp32" and (row is None or "11" in row[3]):
        strong = trtexec(job, strongly_typed=True)
        lines.insert(4, f"TensorRT 11 takes types from the graph, so float layers stay float32: {strong}")
    return "\n".join(lines)
