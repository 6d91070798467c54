"""Other people's ONNX models, to be timed beside ours: what their inputs look like is read from the file itself.

    peer = open_peer(Path("rawnet2.onnx"), threads=1, batch=1)
    peer.run()

Sizes that the file leaves open: the first dimension is the batch, any other is 1 unless --peer-shape says it. Floats
are noise; whole numbers are 0 and 1, which are valid as tokens, as their kinds and as a mask. What comes out is not
looked at.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
LARGEST_INPUT = 1 << 28  # values; a wrong --peer-shape should not fill the memory

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Peer:
    """A foreign model with inputs to feed it."""

    session: Any
    feeds: dict[str, NDArray[Any]]
    fixed: int | None  # batch that the file insists on

    def run(self) -> object:
        return self.session.run(None, self.feeds)


def open_peer(path: Path, threads: int = 1, batch: int = 1, shapes: Shapes | None = None) -> Peer:
    """Loaded, with its inputs, and run once; whatever does not work is one sentence."""
    session = open_bare(path, threads)
    shapes = dict(shapes or {})
    inputs = session.get_inputs()
    if odd := sorted(set(shapes) - {port.name for port in inputs}):
        names = ", ".join(port.name for port in inputs)
        raise ShrikeError(f"--peer-shape {odd[0]}: {path.name} has no such input; it has {names}")
    rng = np.random.default_rng(0)
    feeds = {port.name: _values(port, path, batch, shapes.get(port.name), rng) for port in inputs}
    first = [port.shape[0] for port in inputs if port.shape]
    fixed = next((size for size in first if isinstance(size, int) and size > 0), None)
    peer = Peer(session, feeds, fixed)
    try:
        peer.run()
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        given = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        raise ShrikeError(
            f"{path.name} does not run on {given} ({_first_line(error)}); say the sizes with --peer-shape NAME=1x64600"
        ) from error
    return peer


def open_bare(path: Path, threads: int) -> Any:
    """ONNX Runtime alone, nothing of ours around it, with the threads that our engine would have."""
    import onnxruntime

    if not path.is_file():
        raise ShrikeError(f"{path} does not exist; an ONNX file was expected{nearby(path)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = _first_line(error)
        raise ShrikeError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} refuses it ({reason}); an ONNX file was expected"
        ) from error


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """audio=1x64600 -> ("audio", (1, 64600))"""
    name, _, sizes = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise ShrikeError(f"--peer-shape {text}: NAME=1x64600 was expected")
    return name, tuple(int(size) for size in sizes.split("x"))


def _values(port: Any, path: Path, batch: int, shape: Sequence[int] | None, rng: np.random.Generator) -> NDArray[Any]:
    if port.type not in KINDS:
        raise ShrikeError(f"{path.name}: its input {port.name} is {port.type}; tensors of numbers were expected")
    wanted = [
        size if isinstance(size, int) and size > 0 else (batch if place == 0 else 1)
        for place, size in enumerate(port.shape)
    ]
    if shape is not None:
        fits = len(shape) == len(wanted) and all(
            not isinstance(size, int) or size <= 0 or size == given
            for size, given in zip(port.shape, shape, strict=True)
        )
        if not fits:
            said = "x".join(str(size) for size in port.shape)
            raise ShrikeError(f"--peer-shape {port.name}: {path.name} wants {said}, not {'x'.join(map(str, shape))}")
        wanted = [batch if place == 0 and batch > 1 else size for place, size in enumerate(shape)]
    if np.prod(wanted, dtype=np.float64) > LARGEST_INPUT:
        raise ShrikeError(
            f"{path.name}: {wanted} is too much for the input {port.name}: give smaller sizes with --peer-shape"
        )
    kind = KINDS[port.type]
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(wanted).astype(kind)
    return rng.integers(0, 2, wanted).astype(kind)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
