"""What this machine has for building TensorRT engines, and what to do where that is nothing.

device = find_device()              # or a NoDeviceError that says what is missing and how to get it
print("\\n".join(device.lines()))
print(trtexec(Path("model.onnx"), Path("model.engine"), recipe, window))
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.tensorrt.builder import MIB, Recipe
from runtime.card.model_card import ANY_BATCH, State, TensorSpec
from runtime.engines.cuda import Cuda, CudaError, open_cuda
from runtime.engines.jetpack import jetpack, l4t, load_tensorrt, memory_available
from runtime.support.errors import ShrikeError

OLDEST = (8, 5)  # TensorRT whose runtime has the I/O tensor API
SPARE = 1024  # MiB that TensorRT itself takes beside its workspace: libraries, kernels, both copies of the weights
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where JetPack puts it


class NoDeviceError(ShrikeError):
    """No engine can be built here: TensorRT or the GPU is missing."""


@dataclass(frozen=True)
class Device:
    """A machine that can build engines."""

    trt: Any  # the tensorrt module
    cuda: Cuda
    version: str
    l4t: str | None
    memory: int | None  # MiB that are free

    def lines(self) -> list[str]:
        jetson = f", L4T {self.l4t}" if self.l4t else ""
        free = f"{self.memory:,} MiB of memory are free" if self.memory is not None else "free memory unknown"
        return [
            f"TensorRT {self.version}, GPU {self.cuda.gpu} (compute capability {self.cuda.capability}){jetson}",
            free,
        ]

    def warnings(self, workspace: int) -> list[str]:
        """What may go wrong for lack of memory, with a workspace in MiB."""
        if self.memory is None or self.memory >= workspace + SPARE:
            return []
        wanted = f"{workspace + SPARE:,} MiB"
        return [f"warning: below {wanted} a build may run out of memory; end other programs, or lower --workspace"]


def find_device() -> Device:
    """TensorRT and the GPU of this machine; NoDeviceError for what is missing."""
    try:
        trt = load_tensorrt()
    except ShrikeError as error:
        raise NoDeviceError(str(error)) from error
    version = str(trt.__version__)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise NoDeviceError(f"TensorRT {version} is too old: 8.5 or newer is needed, as in JetPack 5.1 and later")
    try:
        cuda = open_cuda()
    except CudaError as error:
        raise NoDeviceError(f"TensorRT {version} is here, but no GPU: {error}") from error
    return Device(trt, cuda, version, l4t(), memory_available())


def trtexec(
    graph: Path,
    engine: Path,
    recipe: Recipe,
    window: TensorSpec,
    state: State | None = None,
    strongly_typed: bool = False,
) -> str:
    """The line with which TensorRT's own tool builds the same engine; `strongly_typed` writes TensorRT 11's."""
    options = [f"--onnx={graph}", f"--saveEngine={engine}", f"--memPoolSize=workspace:{recipe.workspace}"]
    if not strongly_typed:
        options += {"int8": ["--int8", "--fp16"], "fp16": ["--fp16"], "fp32": []}[recipe.precision]
        options.append("--tacticSources=-CUDNN,-CUBLAS,-CUBLAS_LT")
    if recipe.precision == "fp32":
        options.append("--noTF32")
    if window.shape[0] == ANY_BATCH:
        states = [(tensor.input, tensor.shape) for tensor in state.tensors] if state else []
        ports = [(window.name, window.shape[1:]), *states]
        ends = {"": 1} if recipe.streams == 1 else {"min": 1, "opt": recipe.streams, "max": recipe.streams}
        for end, count in ends.items():
            sizes = ",".join(f"{name}:{'x'.join(map(str, (count, *shape)))}" for name, shape in ports)
            options.append(f"--{end}Shapes={sizes}" if end else f"--shapes={sizes}")
    if recipe.timing_cache:
        options.append(f"--timingCacheFile={recipe.timing_cache}")
    return shlex.join([TRTEXEC, *options, "--profilingVerbosity=detailed"])


def advice(
    reason: NoDeviceError, graph: Path, engine: Path, recipe: Recipe, window: TensorSpec, state: State | None = None
) -> str:
    """One message: what is done, what is missing, how to get it, and how to build without us."""
    version = l4t()
    row = jetpack(version) if version else None
    lines = [
        f"{graph} and its card are ready ({graph.stat().st_size / MIB:.2f} MiB), but no engine was built here.",
        str(reason),
        f"Build on the device that runs it, where no torch is needed: python -m export.trt {shlex.quote(str(graph))}",
        f"or with TensorRT's own tool: {trtexec(graph, engine, recipe, window, state)}",
        "An engine of trtexec gets its check and its card from --built FILE of this command, on the device.",
    ]
    if recipe.precision != "fp32" and (row is None or "11" in row[3]):
        strong = trtexec(graph, engine, recipe, window, state, strongly_typed=True)
        lines.insert(4, f"TensorRT 11 takes types from the graph alone, so what is float stays float32: {strong}")
    return "\n".join(lines)
