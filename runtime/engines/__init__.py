"""Engines compute logits from log power, with ONNX Runtime or TensorRT behind one interface.

engine = open_engine("deploy/model.onnx")         # or model.engine; checks the card beside it first
logits = engine(window)                           # (batch, 1, bands, 600) float32 -> (batch, 2): spoof, bona fide
logits, states = engine.step(features, states)    # of a streaming model (engine.state is not None): new frames only
engine.close()
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.card.schema import State
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from runtime.card.model_card import ModelCard

Array = NDArray[Any]
Step = Callable[[NDArray[np.float32], list[Array]], tuple[NDArray[np.float32], list[Array]]]


class EngineAwayError(ShrikeError):
    """The server that computes does not answer: try again later."""


class StateLostError(EngineAwayError):
    """A stream's state is gone, and its next step must be fresh."""


class Engine(Protocol):
    """A loaded windowed model. Not thread-safe."""

    name: str  # of the model, from its card
    precision: str  # fp32, fp16 or int8

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (batch, 2) of raw log power (batch, 1, bands, 600)."""
        ...

    def close(self) -> None:
        """Release the memory; a second call does nothing."""
        ...


class StreamingEngine(Engine, Protocol):
    """A loaded streaming model."""

    state: State
    batch: int  # streams in one step; -1: any number

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (batch, 1, bands, frames), states (batch, *shape) -> logits (batch, 2), next states."""
        ...

    def batch_buffers(self, count: int) -> "BatchBuffers":
        """Allocate buffers for steps of up to `count` streams."""
        ...


def as_streaming(engine: Engine) -> "StreamingEngine | None":
    """Return the engine if its model is a streaming one, else None."""
    return engine if getattr(engine, "state", None) is not None else None  # type: ignore[return-value]


def initial_states(state: State, count: int) -> list[Array]:
    """Return the states (count, *shape) with which `count` streams start."""
    found = []
    for tensor in state.tensors:
        values = np.asarray(tensor.reset, tensor.type).reshape(-1, *[1] * (len(tensor.shape) - 1))
        found.append(np.broadcast_to(values, (count, *tensor.shape)).copy())
    return found


def check_windows(card: "ModelCard", features: Array) -> None:
    """Require a windowed model and features (n, 1, bands, frames) in float32."""
    if card.state is not None:
        raise ShrikeError(f"{card.name} is a streaming model; call step() with {card.state.frames} new frames")
    _check_array(card, "features", features, card.input.shape[1:], "float32", len(features) if features.ndim else 0)


def check_step(card: "ModelCard", features: Array, states: list[Array]) -> None:
    """Require a streaming model, and the shapes and types of its step for one number of streams."""
    if card.state is None:
        raise ShrikeError(f"{card.name} is a windowed model; call it with windows of {card.input.shape[-1]} frames")
    count = len(features) if features.ndim else 0
    _check_array(card, "features", features, card.input.shape[1:], "float32", count)
    if len(states) != len(card.state.tensors):
        raise ShrikeError(f"{card.name}: {len(states)} states; expected {len(card.state.tensors)}")
    for value, tensor in zip(states, card.state.tensors, strict=True):
        _check_array(card, f"state {tensor.input}", value, tensor.shape, tensor.type, count)


def _check_array(card: "ModelCard", name: str, value: Array, shape: tuple[int, ...], kind: str, count: int) -> None:
    if value.shape != (count, *shape) or value.dtype != kind:
        came, wanted = f"{value.shape} of {value.dtype}", f"{('n', *shape)} of {kind}"
        raise ShrikeError(f"{card.name}: {name} {came}; expected {wanted}: use the card's front-end")


class BatchBuffers:
    """Arrays for the steps of up to `count` streams; results of the engine's `step` are copied into them."""

    def __init__(self, step: Step, card: "ModelCard", count: int) -> None:
        assert card.state is not None
        self._step = step
        self.features: NDArray[np.float32] = np.zeros((count, *card.input.shape[1:]), np.float32)  # set by the caller
        self.states = initial_states(card.state, count)  # (count, *shape): output of the last run, input of the next

    def run(self, count: int) -> NDArray[np.float32]:
        """Compute a step of the first `count` streams: logits (count, 2), a new array."""
        logits, states = self._step(self.features[:count], [state[:count] for state in self.states])
        for buffer, new in zip(self.states, states, strict=True):
            buffer[:count] = new
        return logits


def open_engine(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> Engine:
    """Open the model at `path`: .onnx with ONNX Runtime, .engine with TensorRT, which ignores the other arguments."""
    path = Path(path)
    if path.suffix == ".onnx":
        from runtime.engines.onnx import open_onnx

        return open_onnx(path, threads, provider)
    if path.suffix == ".engine":
        from runtime.engines.tensorrt import open_tensorrt

        return open_tensorrt(path)
    raise ShrikeError(
        f"{path}: expected model.onnx (any machine) or model.engine (TensorRT); python -m export.onnx and "
        "python -m export.trt write them"
    )
