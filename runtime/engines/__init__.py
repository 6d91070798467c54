"""Engines: what turns log power into logits, whatever is underneath.

engine = open_engine("deploy/model.onnx")         # or model.engine; the card beside it is checked first
logits = engine(window)                           # (batch, 1, bands, 600) float32 -> (batch, 2): spoof, bona fide
logits, states = engine.step(features, states)    # of a network that remembers (engine.state): new frames alone
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


class BatchBuffers(Protocol):
    """A step prepared for up to so many streams, with arrays that stay where they are."""

    features: NDArray[np.float32]  # (count, 1, bands, frames), to be filled

    @property
    def states(self) -> list[Array]:
        """(count, *shape) of each: what goes into the next run, which is what came out of the last."""
        ...

    def run(self, count: int) -> NDArray[np.float32]:
        """The first `count` streams take a step: logits (count, 2), the caller's to keep."""
        ...


class StreamingEngine(Engine, Protocol):
    """An engine of a network that remembers."""

    state: State
    batch: int  # streams in one step; -1: any number

    def step(self, features: NDArray[np.float32], states: list[Array]) -> tuple[NDArray[np.float32], list[Array]]:
        """New frames (batch, 1, bands, frames) and the states (batch, *shape) -> logits (batch, 2) and new states."""
        ...

    def batch_buffers(self, count: int) -> BatchBuffers:
        """The same step for up to `count` streams, again and again."""
        ...


def as_streaming(engine: Engine) -> "StreamingEngine | None":
    """The engine as one that remembers, or None if it is given whole windows."""
    return engine if getattr(engine, "state", None) is not None else None  # type: ignore[return-value]


def batch_limit(engine: Engine) -> int:
    """Windows or streams that one call takes, -1 for any number; an engine that does not say takes one."""
    return getattr(engine, "batch", 1)


def initial_states(state: State, count: int) -> list[Array]:
    """What so many streams begin with: (count, *shape) of each state."""
    found = []
    for tensor in state.tensors:
        values = np.asarray(tensor.reset, tensor.type).reshape(-1, *[1] * (len(tensor.shape) - 1))
        found.append(np.broadcast_to(values, (count, *tensor.shape)).copy())
    return found


def check_step(card: "ModelCard", features: Array, states: list[Array]) -> None:
    """What a step was given is what the card says: shapes and types, for one number of streams."""
    assert card.state is not None
    given = [("features", features, card.input.shape[1:], "float32")]
    if len(states) != len(card.state.tensors):
        raise ShrikeError(f"{card.name}: {len(states)} states came; {len(card.state.tensors)} were expected")
    given += [(f"state {t.input}", value, t.shape, t.type) for t, value in zip(card.state.tensors, states, strict=True)]
    for name, value, shape, kind in given:
        if value.shape != (len(features), *shape) or value.dtype != kind:
            raise ShrikeError(
                f"{card.name}: {name} {value.shape} of {value.dtype} came; {('n', *shape)} of {kind} was expected: "
                "is this the card's front-end?"
            )


class CopyingBuffers:
    """BatchBuffers of an engine that knows no better than `step`: what it gives is copied."""

    def __init__(self, step: Step, card: "ModelCard", count: int) -> None:
        assert card.state is not None
        self._step = step
        self.features: NDArray[np.float32] = np.zeros((count, *card.input.shape[1:]), np.float32)
        self._states = initial_states(card.state, count)

    @property
    def states(self) -> list[Array]:
        return self._states

    def run(self, count: int) -> NDArray[np.float32]:
        logits, states = self._step(self.features[:count], [state[:count] for state in self._states])
        for kept, new in zip(self._states, states, strict=True):
            kept[:count] = new
        return logits


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
