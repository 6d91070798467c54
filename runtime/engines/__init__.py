"""Engines: what turns a window of log power into logits, whatever is underneath.

engine = open_engine("deploy/model.onnx")         # or model.engine; the card beside it is checked first
logits = engine(window)                           # (batch, 1, bands, 600) float32 -> (batch, 2): spoof, bona fide
engine.close()
"""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ShrikeError


class Engine(Protocol):
    """A loaded model. Not thread-safe: one engine for every thread that calls one."""

    name: str  # of the model, as its card has it
    precision: str  # fp32, fp16 or int8

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (batch, 1, bands, 600) -> logits (batch, 2)."""
        ...

    def close(self) -> None:
        """Give back its memory; calling it twice is fine."""
        ...


def open_engine(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> Engine:
    """The model at `path`, by its ending; `threads` and `provider` count for ONNX Runtime alone."""
    path = Path(path)
    if path.suffix == ".onnx":
        from runtime.engines.onnx import open_onnx

        return open_onnx(path, threads, provider)
    if path.suffix == ".engine":
        from runtime.engines.tensorrt import open_tensorrt

        return open_tensorrt(path)
    raise ShrikeError(
        f"{path} is no model that runs: model.onnx (any machine) or model.engine (TensorRT) was expected; "
        "python -m export.onnx and python -m export.trt write them"
    )
