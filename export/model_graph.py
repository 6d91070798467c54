"""A network as a graph that runs step by step: new frames and states in, logits and the next states out.

    model = trace(strip(checkpoint), frontend, frames=16)     # ModelGraph: the graph, its step, its reset states
    model = model.with_graph(quantise(model.graph, ...))      # the states of a U8 file are uint8
    logits = run(model, features)                             # after every step of a clip, from the reset

                features (batch, 1, bands, 16) --.             .-- logits (batch, 2)
    stages.0.0.body.0.past (batch, 32, 45, 2) --- one step's graph --- stages.0.0.body.0.kept, the next one's past
                                           ...  --'             '-- ...

The graph has no loop: the number of new frames is fixed, and the batch may be any number of streams. A windowed model
is the same without states: its step is one window.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graph import INPUT, OPSET, OUTPUT, Floats, check, has_signed_activations, tidy, weights_of
from runtime.audio.features import FrontEnd
from runtime.audio.score_times import STEP
from runtime.card.model_card import ANY_BATCH, State, StateTensor
from runtime.engines import initial_states
from runtime.engines.onnx import open_session
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from torch import Tensor, nn

PAST, KEPT = "past", "kept"  # ends of a state's names, as input and as output
PROBES = 5  # steps in which ONNX Runtime is compared with torch: more than any convolution's receptive field
TOLERANCE = 5e-5  # of a logit, relative above 1: float32 sums in another order; 50 layers differ by up to 2e-5

MAP = 4  # dimensions of a convolution's state, with the batch
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels, in a map of (batch, channels, bands, frames)

Layout = Literal["channels last", "channels first"]
States = dict[str, NDArray[Any]]  # by the name of the input, (batch, ...)
Forward = Callable[[Floats], Floats]  # features (1, 1, bands, frames) -> logits (steps, 2); a window is one step


@dataclass(frozen=True)
class ModelGraph:
    """A graph that computes one step, and its states."""

    graph: onnx.ModelProto
    frames: int  # new frames a step; of a windowed model all of a window
    tensors: tuple[StateTensor, ...] = ()  # none: a windowed model

    @property
    def state(self) -> State | None:
        """The card's entry; None for a windowed model."""
        return State(self.frames, self.tensors) if self.tensors else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features, (batch, 1, bands, frames)."""
        return tuple(size.dim_value or ANY_BATCH for size in self.graph.graph.input[0].type.tensor_type.shape.dim)

    def with_graph(self, graph: onnx.ModelProto) -> "ModelGraph":
        """Return the states with another graph; those of its uint8 ports are uint8, reset to the zero point."""
        kinds = {port.name: port.type.tensor_type.elem_type for port in graph.graph.input}
        tensors = tuple(
            replace(tensor, type="uint8", reset=(_zero_point(graph, tensor.input),))
            if kinds[tensor.input] == onnx.TensorProto.UINT8
            else tensor
            for tensor in self.tensors
        )
        return replace(self, graph=graph, tensors=tensors)


def _zero_point(graph: onnx.ModelProto, state: str) -> float:
    """Zero point of an integer state: that of the DequantizeLinear behind the Concat with new frames."""
    turned = {state, *(n.output[0] for n in graph.graph.node if n.op_type == "Transpose" and n.input[0] == state)}
    (joined,) = (n.output[0] for n in graph.graph.node if n.op_type == "Concat" and n.input[0] in turned)
    reader = next(n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == joined)
    return float(weights_of(graph)[reader.input[2]])


# ---- tracing ---------------------------------------------------------------------------------------------------------


def trace(
    network: "nn.Module",
    frontend: FrontEnd,
    dynamic: bool | None = None,
    frames: int = STEP,
    layout: Layout = "channels last",
) -> ModelGraph:
    """Trace the stripped network and check its logits against torch's, a streaming one's on a whole clip.

    dynamic  leave the batch open; by default only for streaming networks
    frames   new frames a step of a streaming network
    layout   of the convolutions' states: (bands, frames, channels) or (channels, bands, frames). CPUs compute INT8 in
             the former and would transpose every state twice.
    """
    import torch
    from torch import nn

    from export.strip import DeployedStream
    from train.networks.streaming import initial_states as network_states
    from train.networks.streaming import stepping

    streaming = isinstance(network, DeployedStream)
    dynamic = streaming if dynamic is None else dynamic
    frames = frames if streaming else frontend.width
    if isinstance(network, DeployedStream) and (frames < 1 or frames % network.stride):
        raise ShrikeError(f"--frames {frames}: expected a multiple of the network's stride, {network.stride}")
    state = network_states(network, torch.zeros(1, 1, frontend.bands, frames)) if streaming else {}
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

    tensors = tuple(
        StateTensor(f"{name}.{PAST}", f"{name}.{KEPT}", tuple(value.shape[1:]), "float32", _reset(value))
        for name, value in state.items()
    )
    inputs, outputs = [INPUT, *(tensor.input for tensor in tensors)], [OUTPUT, *(tensor.output for tensor in tensors)]
    clip = np.random.default_rng(0).normal(-8, 4, (1, 1, frontend.bands, PROBES * frames)).astype(np.float32)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The newer exporter needs onnxscript and writes opset 18 down to 17 with leftovers; this one's graph is clean.
        warnings.simplefilter("ignore")
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
        graph = tidy(onnx.load(Path(folder) / "traced.onnx"), "network.")
    check(graph)
    model = ModelGraph(graph, frames, tensors)
    ends = range(frames, clip.shape[3] + 1, frames)
    with torch.inference_mode():
        parts = [torch.from_numpy(clip[..., 0 if streaming else end - frames : end]) for end in ends]
        expected = np.concatenate([network(part).numpy() for part in parts])
    worst = float(np.abs(run(model, clip) - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    assert worst <= limit, f"ONNX Runtime's logits differ from torch's by {worst:.2g}, {limit:.2g} is allowed"
    return model


def _reset(values: "Tensor") -> tuple[float, ...]:
    """Reduce a reset state to one value, or to one for each of the first dimension."""
    rows = values[0].reshape(len(values[0]), -1)
    assert bool((rows == rows[:, :1]).all()), "a state is reset to one value a channel"
    each = [float(value) for value in rows[:, 0]]
    return (each[0],) if len(set(each)) == 1 else tuple(each)


# ---- running ---------------------------------------------------------------------------------------------------------


class StepSession:
    """Runs a batch of streams in the runtime's session, on one core; `extra` names inner tensors to return."""

    def __init__(self, model: ModelGraph, batch: int = 1, extra: tuple[str, ...] = ()) -> None:
        self.model, self._batch = model, batch
        self._outputs = [OUTPUT, *(tensor.output for tensor in model.tensors), *extra]
        graph = copy.deepcopy(model.graph)
        graph.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in extra)
        signed = has_signed_activations(graph)
        self._session, _, _ = open_session(graph.SerializeToString(), "the exported graph", 1, "cpu", signed)
        self.reset()

    def reset(self) -> None:
        values = initial_states(self.model.state, self._batch) if self.model.state else []
        self.states: States = {t.input: value for t, value in zip(self.model.tensors, values, strict=True)}

    def __call__(self, features: Floats) -> tuple[Floats, list[NDArray[Any]]]:
        """Run one step: frames (batch, 1, bands, n) -> logits (batch, 2), and the extra tensors."""
        logits, *rest = self._session.run(self._outputs, {INPUT: features, **self.states})
        self.states = dict(zip(self.states, rest, strict=False))
        return logits, rest[len(self.states) :]


def split_steps(features: Floats, frames: int) -> Iterator[Floats]:
    """Split a clip (batch, 1, bands, frames) into whole steps; the rest is dropped."""
    for start in range(0, features.shape[3] - frames + 1, frames):
        yield np.ascontiguousarray(features[..., start : start + frames])


def as_runner(model: ModelGraph) -> Forward:
    """Wrap the graph in a function: a clip (1, 1, bands, frames) -> logits (steps, 2) after every step."""
    session = StepSession(model)

    def run(features: Floats) -> Floats:
        session.reset()
        return np.concatenate([session(piece)[0] for piece in split_steps(features, model.frames)])

    return run


def run(model: ModelGraph, features: Floats) -> Floats:
    """Compute logits (steps, 2) of a clip from the reset."""
    return as_runner(model)(features)


def last_logits(model: ModelGraph, clips: Iterable[Floats]) -> Floats:
    """Compute logits (clips, 2) at the ends of clips."""
    return np.stack([logits[-1] for logits in map(as_runner(model), clips)])
