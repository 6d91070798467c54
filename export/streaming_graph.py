"""One step of a streaming model as an ONNX graph: new frames and states in, logits and the next states out.

    step = trace(strip(checkpoint), frontend, frames=16)     # StepGraph: the graph and its reset states
    step = step.with_graph(quantise(step.graph, ...))        # the states of a U8 file are uint8
    logits = run(step, features)                             # behind every step of a clip, from the reset

                features (batch, 1, bands, 16) --.             .-- logits (batch, 2)
    stages.0.0.body.0.past (batch, 32, 45, 2) --- one step's graph --- stages.0.0.body.0.kept, the next one's past
                                           ...  --'             '-- ...

The graph has no loop: the number of new frames is fixed, and the batch is any number of streams.
"""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph import INPUT, OPSET, OUTPUT, TOLERANCE, Floats, Forward, check, open_session, tidy, weights_of
from runtime.audio.features import FrontEnd
from runtime.audio.score_times import STEP
from runtime.card.model_card import State, StateTensor
from runtime.engines import initial_states
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from torch import Tensor

    from export.strip import DeployedStream

PAST, KEPT = "past", "kept"  # ends of a state's names, as input and as output
PROBES = 5  # steps in which ONNX Runtime is compared with torch: more than any convolution's receptive field

MAP = 4  # dimensions of a convolution's state, with the batch
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels, in a map of (batch, channels, bands, frames)

Layout = Literal["channels last", "channels first"]
States = dict[str, NDArray[Any]]  # by the name of the input, (batch, ...)


@dataclass(frozen=True)
class StepGraph:
    """The graph of one step, and its states."""

    graph: onnx.ModelProto
    state: State

    def with_graph(self, graph: onnx.ModelProto) -> "StepGraph":
        """Return the states with another graph; those of its uint8 ports are uint8, reset to the zero point."""
        unsigned = [port.name for port in graph.graph.input if _kind(port) == onnx.TensorProto.UINT8]
        tensors = tuple(
            replace(tensor, type="uint8", reset=(_zero_point(graph, tensor.input),))
            if tensor.input in unsigned
            else tensor
            for tensor in self.state.tensors
        )
        return StepGraph(graph, replace(self.state, tensors=tensors))

    def reset(self, batch: int = 1) -> States:
        """Return the reset states of `batch` streams, by the name of the input."""
        values = initial_states(self.state, batch)
        return {tensor.input: value for tensor, value in zip(self.state.tensors, values, strict=True)}


# ---- tracing ---------------------------------------------------------------------------------------------------------


def trace(
    network: "DeployedStream",
    frontend: FrontEnd,
    frames: int = STEP,
    dynamic: bool = True,
    layout: Layout = "channels last",
) -> StepGraph:
    """Trace one step of the stripped network and check that steps give torch's logits for the whole clip.

    `layout` of the convolutions' states: (bands, frames, channels) or (channels, bands, frames). CPUs compute INT8 in
    the former and would transpose every state twice.
    """
    import torch
    from torch import nn

    from train.networks.streaming import initial_states as network_states
    from train.networks.streaming import stepping

    if frames < 1 or frames % network.stride:
        raise ShrikeError(f"--frames {frames}: expected a multiple of the network's stride, {network.stride}")
    state = network_states(network, torch.zeros(1, 1, frontend.bands, frames))
    turned = {name for name, value in state.items() if value.ndim == MAP and layout == "channels last"} - {"level"}
    state = {name: value.permute(*LAST).contiguous() if name in turned else value for name, value in state.items()}

    class OneStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, features: "Tensor", *past: "Tensor") -> tuple["Tensor", ...]:
            known = zip(state, past, strict=True)
            with stepping(self.network, {n: v.permute(*FIRST) if n in turned else v for n, v in known}) as after:
                logits = self.network(features)
            return (logits, *(v.permute(*LAST) if n in turned else v for n, v in after.items()))

    ports = [
        StateTensor(f"{name}.{PAST}", f"{name}.{KEPT}", tuple(value.shape[1:]), "float32", _reset(value))
        for name, value in state.items()
    ]
    inputs, outputs = [INPUT, *(port.input for port in ports)], [OUTPUT, *(port.output for port in ports)]
    rng = np.random.default_rng(0)
    clip = rng.normal(-8, 4, (1, 1, frontend.bands, PROBES * frames)).astype(np.float32)  # log power's range
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # for the same exporter as in export.graph
        torch.onnx.export(
            OneStep(),
            (torch.from_numpy(clip[..., :frames]), *state.values()),
            Path(folder) / "traced.onnx",
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)} if dynamic else None,
            dynamo=False,
        )
        model = tidy(onnx.load(Path(folder) / "traced.onnx"), "network.")
    check(model)
    step = StepGraph(model, State(frames, tuple(ports)))
    with torch.inference_mode():
        ends = [network(torch.from_numpy(clip[..., : (n + 1) * frames])).numpy() for n in range(PROBES)]
    expected = np.concatenate(ends)
    worst = float(np.abs(run(step, clip) - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    assert worst <= limit, f"the steps' logits differ from the whole clip's by {worst:.2g}, {limit:.2g} is allowed"
    return step


def _reset(values: "Tensor") -> tuple[float, ...]:
    """Reduce a reset state to one value, or to one for each of the first dimension."""
    rows = values[0].reshape(len(values[0]), -1)
    assert bool((rows == rows[:, :1]).all()), "a state is reset to one value a channel"
    each = [float(value) for value in rows[:, 0]]
    return (each[0],) if len(set(each)) == 1 else tuple(each)


def _kind(port: onnx.ValueInfoProto) -> int:
    return int(port.type.tensor_type.elem_type)


def _zero_point(graph: onnx.ModelProto, state: str) -> float:
    """Zero point of an integer state: that of the DequantizeLinear behind the Concat with new frames."""
    turned = {state, *(n.output[0] for n in graph.graph.node if n.op_type == "Transpose" and n.input[0] == state)}
    (joined,) = (n.output[0] for n in graph.graph.node if n.op_type == "Concat" and n.input[0] in turned)
    reader = next(n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == joined)
    return float(weights_of(graph)[reader.input[2]])


# ---- running ---------------------------------------------------------------------------------------------------------


class StepSession:
    """Runs a batch of streams through a step's graph on one core; `extra` names inner tensors."""

    def __init__(self, step: StepGraph, batch: int = 1, extra: tuple[str, ...] = ()) -> None:
        self.step, self._batch = step, batch
        self._session = open_session(step.graph, extra)
        self._outputs = [OUTPUT, *(tensor.output for tensor in step.state.tensors), *extra]
        self.reset()

    def reset(self) -> None:
        self.states = self.step.reset(self._batch)

    def __call__(self, features: Floats) -> tuple[Floats, list[NDArray[Any]]]:
        """Run one step: frames (batch, 1, bands, n) -> logits (batch, 2), and the extra tensors."""
        logits, *rest = self._session.run(self._outputs, {INPUT: features, **self.states})
        self.states = dict(zip(self.states, rest, strict=False))
        return logits, rest[len(self.states) :]


def split_steps(features: Floats, frames: int) -> Iterator[Floats]:
    """Split a clip (batch, 1, bands, frames) into whole steps; the rest is dropped."""
    for start in range(0, features.shape[3] - frames + 1, frames):
        yield np.ascontiguousarray(features[..., start : start + frames])


def as_runner(step: StepGraph) -> Forward:
    """Wrap the graph in a function: a clip (1, 1, bands, frames) -> logits (steps, 2) after every step."""
    stream = StepSession(step)

    def run(features: Floats) -> Floats:
        stream.reset()
        return np.concatenate([stream(piece)[0] for piece in split_steps(features, step.state.frames)])

    return run


def run(step: StepGraph, features: Floats) -> Floats:
    """Compute logits (steps, 2) of a clip from the reset."""
    return as_runner(step)(features)


def last_logits(like: StepGraph, graph: onnx.ModelProto, clips: Iterable[Floats]) -> Floats:
    """Compute logits (clips, 2) at the ends of clips, of a graph with the states of `like`."""
    runner = as_runner(like.with_graph(graph))
    return np.stack([runner(clip)[-1] for clip in clips])
