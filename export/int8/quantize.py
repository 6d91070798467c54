"""INT8: which tensors are rounded, and the two files that say so: S8 for TensorRT, U8 for CPUs.

    layers = plan(model)                                    # what can compute in INT8
    ranges = find_ranges(model, tensors(layers), windows)   # export.int8.calibration
    s8 = quantise(model, layers, ranges, "int8")
    u8 = quantise(model, layers, ranges, "uint8")

Placement, as TensorRT fuses it: Q/DQ stand on what goes into a layer, never behind it.

    x --Q/DQ--+--> Conv -> Relu --Q/DQ--> Conv --Q/DQ--+--> GlobalAveragePool -> gate -> Sigmoid --Q/DQ--+
              |                                        +----------------------------------> Mul --Q/DQ--> Add -> Relu
              +--> Conv 1x1 (or nothing) ----------------------------------------Q/DQ (skip) -------------+

Both branches of an Add are rounded. NVIDIA's rule, the skip branch alone, protects a convolution that adds in its own
kernel; in all networks but Res2Net50 the gate's Mul stands between. It costs 0.5 dB and makes the U8 file a fifth
faster: 2.2 instead of 1.75 times ONNX Runtime's float on one core. Without it a third of Res2Net50 would run in float
there: ONNX Runtime computes a convolution in INT8 only where what leaves it is rounded too.

What goes into a Concat takes the scale of what comes out of it, so that Res2Net's groups are put together as integers,
and so a state is joined to new frames. In the U8 file such a state is uint8 and nothing of it is rounded again; in S8
it is float32, and holds what the same integers stand for:

    U8   state uint8 -----------------+             S8   state --Q/DQ--+
         x --Q--+----------------> Concat --DQ--> Conv     x --Q/DQ--> Concat --Q/DQ--> Conv
                '--DQ--> shortcut     '--> Slice, the next state           '--> Slice, the next state

Both files hold the same integers. S8 is symmetric with zero point 0, its weights are float with Q/DQ and its bias is
float: all that TensorRT 8.5 reads. ONNX Runtime would leave every ReLU of it in float, so the U8 twin moves the zero
point to 0 behind Relu and Sigmoid and to 128 elsewhere, and cuts at 127 as S8 does; its weights are INT8, its biases
INT32. Their scales leave no value between two integers (export.int8.scales), so both give the same logits, to the last bit.

Why not onnxruntime.quantization: it quantises by kind of node, not by operand, so a skip branch cannot be told from the
main one; its INT32 bias does not parse in TensorRT; and two runs of it would not give one table of scales.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graph import INPUT, assemble, check, weights_of
from export.int8.scales import LEVELS, Ranges, Scales, never_negative, producers, remembered, without_ties

MIDDLE = 128  # zero point of a signed tensor in U8
JOINING = frozenset({"Add", "Mul", "Concat", "AveragePool"})  # INT8 without weights: all their inputs are rounded

Kind = Literal["int8", "uint8"]


@dataclass(frozen=True)
class Layer:
    """A node that can compute in INT8."""

    name: str  # stages.0.0.body.0.Conv
    operation: str
    tensors: tuple[str, ...]  # its inputs that pass through Q/DQ
    weight: str | None = None
    bias: str | None = None
    memory: tuple[str, ...] = ()  # what a Concat joins to its input: a state, and the new frames


def plan(model: onnx.ModelProto) -> list[Layer]:
    """The layers that compute in INT8, in the graph's order."""
    pooled: set[str] = set()  # what follows a mean, up to the gate's Mul or the logits: tiny, stays float
    joined = remembered(model)
    known = {*weights_of(model), *(n.output[0] for n in model.graph.node if n.op_type == "Constant")}
    means = {node.input[0] for node in model.graph.node if node.op_type == "Reshape"}
    layers = []
    for node in model.graph.node:
        if node.op_type in ("GlobalAveragePool", "ReduceMean"):
            if node.input[0] not in (INPUT, *pooled):  # the level's mean wants full precision
                layers.append(Layer(node.name, node.op_type, (node.input[0],)))
            pooled.add(node.output[0])
        elif node.op_type == "Transpose" and node.output[0] in means and node.input[0] not in pooled:
            layers.append(
                Layer(node.name, "Mean", (node.input[0],))
            )  # of a step: its first node (export.streaming_ops)
            pooled.add(node.output[0])
        elif pooled.issuperset(set(node.input) - known) if node.op_type == "Mul" else not pooled.isdisjoint(node.input):
            if node.op_type != "Sub":
                pooled.update(node.output)
        elif node.op_type == "Conv":
            bias = node.input[2] if len(node.input) > 2 else None
            memory = joined.get(node.input[0], ())
            layers.append(Layer(node.name, node.op_type, (node.input[0],), node.input[1], bias, memory))
        elif node.op_type in JOINING and node.output[0] not in joined:
            layers.append(Layer(node.name, node.op_type, tuple(node.input)))
    return layers


def float_by_design(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Layers with weights that no plan quantises, and why."""
    planned, weights = {layer.name for layer in layers}, weights_of(model)
    why = {
        "Gemm": "the classifier: two dot products right before the score",
        "Conv": "inside a gate: too small to gain",
    }
    return {
        node.name: why[node.op_type]
        for node in model.graph.node
        if node.op_type in why and node.name not in planned and any(name in weights for name in node.input)
    }


def tensors(layers: Sequence[Layer]) -> list[str]:
    """What needs a range, each once."""
    return list(dict.fromkeys(name for layer in layers for name in layer.tensors))


def quantise(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, kind: Kind) -> onnx.ModelProto:
    """The graph with these layers in INT8; what is not among them stays as it is."""
    writer = _Writer(model, without_ties(model, layers, ranges), kind)
    wanted = {layer.name: layer for layer in layers}
    memories = {layer.tensors[0]: layer.memory for layer in layers if layer.memory}
    states: dict[str, str] = {}  # joined tensor -> its integers
    for source in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        if (joined := node.output[0]) in memories and kind == "uint8":
            states[joined] = writer.join(node, *memories[joined])
            continue
        if joined in memories:
            node.input[:] = [writer.activation(name) for name in node.input]
        if node.op_type == "Slice" and node.input[0] in states:
            node.input[0] = states[node.input[0]]
        if layer := wanted.get(node.name):
            for place, name in enumerate(source.input):
                if name in layer.tensors:
                    node.input[place] = writer.activation(name)
            if layer.weight:
                node.input[1] = writer.weight(layer.weight)
                if layer.bias:
                    node.input[2] = writer.bias(layer.bias, layer.weight, layer.tensors[0])
        writer.nodes.append(node)
    used = {name for node in writer.nodes for name in node.input}
    kept = {name: value for name, value in writer.constants.items() if name in used}
    inputs, outputs = [*map(_copy, model.graph.input)], [*map(_copy, model.graph.output)]
    pasts = {memories[joined][0] for joined in states}
    _become_uint8(writer.nodes, [*inputs, *outputs], pasts, set(states.values()))
    quantised = assemble(writer.nodes, inputs, outputs, kept)
    check(quantised)
    return quantised


def _copy(port: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(port)
    return copy


def _become_uint8(
    nodes: Sequence[onnx.NodeProto], ports: Sequence[onnx.ValueInfoProto], pasts: set[str], joined: set[str]
) -> None:
    """Ports of states that are integers: what was joined, and what is cut from the end of it; turned around or not."""
    for node in nodes:
        if node.op_type == "Transpose" and node.output[0] in pasts:
            pasts.add(node.input[0])
        if node.op_type in ("Slice", "Transpose") and node.input[0] in joined:
            joined.add(node.output[0])
    for port in ports:
        if port.name in pasts | joined:
            port.type.tensor_type.elem_type = onnx.TensorProto.UINT8


class _Writer:
    """Nodes and constants of the new graph; one Q/DQ pair for a tensor, whoever reads it."""

    def __init__(self, model: onnx.ModelProto, scales: Scales, kind: Kind) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = weights_of(model)
        self.scales, self.unsigned = scales, kind == "uint8"
        self.made_by = producers(model)
        self.done: dict[str, str] = {}

    def activation(self, name: str) -> str:
        return self._once(name, self._activation)

    def weight(self, name: str) -> str:
        return self._once(name, self._weight)

    def _once(self, name: str, make: Callable[[str], str]) -> str:
        if name not in self.done:
            self.done[name] = make(name)
        return self.done[name]

    def _activation(self, name: str) -> str:
        return self._floats(name, self._once(f"{name}.integers", lambda _: self._integers(name)))

    def _integers(self, name: str) -> str:
        integers = self._add("QuantizeLinear", [name, *self._grid(name)], f"{name}.Q")
        if self.unsigned and never_negative(self.made_by, name):
            # Clip, whose first bound is left out, and not Min: before 1.24 ONNX Runtime has no Min of 8-bit integers.
            cut = self._constant("cut", np.array(LEVELS, np.uint8))
            integers = self._add("Clip", [integers, "", cut], f"{name}.cut")
        return integers

    def _floats(self, name: str, integers: str) -> str:
        return self._add("DequantizeLinear", [integers, *self._grid(name)], f"{name}.DQ")

    def _grid(self, name: str) -> tuple[str, str]:
        """Scale and zero point of a tensor."""
        zero = MIDDLE if self.unsigned and not never_negative(self.made_by, name) else 0
        scale = self._constant(f"{name}.scale", self.scales[name])
        return scale, self._constant(f"{name}.zero", np.array(zero, np.uint8 if self.unsigned else np.int8))

    def join(self, concat: onnx.NodeProto, state: str, frames: str) -> str:
        """A Concat of integers, read by `activation` of its output as if that had been rounded there."""
        (joined,) = concat.output
        concat.input[:] = [state, self._once(f"{frames}.integers", lambda _: self._integers(frames))]
        concat.output[0] = f"{joined}.Q"
        self.nodes.append(concat)
        self.done[joined] = self._floats(joined, concat.output[0])
        return concat.output[0]

    def _weight(self, name: str) -> str:
        weight = self.constants[name]
        scales = self.scales[name]
        scale = self._constant(f"{name}.scale", scales)
        point = self._constant(f"{name}.zero", np.zeros(len(scales), np.int8))
        if self.unsigned:
            columns = scales.reshape(-1, *[1] * (weight.ndim - 1))
            rounded = np.clip(np.rint(weight / columns), -LEVELS, LEVELS).astype(np.int8)
            integers = self._constant(f"{name}.int8", rounded)
        else:
            integers = self._add("QuantizeLinear", [name, scale, point], f"{name}.Q", axis=0)
        return self._add("DequantizeLinear", [integers, scale, point], f"{name}.DQ", axis=0)

    def bias(self, name: str, weight: str, source: str) -> str:
        """INT32 in units of the accumulator; the S8 file keeps the same numbers as floats."""
        unit = self.scales[source] * self.constants[f"{weight}.scale"]
        rounded = np.rint(self.constants[name] / unit)
        if not self.unsigned:
            return self._constant(f"{name}.rounded", (rounded * unit).astype(np.float32))
        limit = np.iinfo(np.int32)
        integers = self._constant(f"{name}.int32", np.clip(rounded, limit.min, limit.max).astype(np.int32))
        scale = self._constant(f"{name}.scale", unit)
        point = self._constant(f"{name}.zero", np.zeros(len(unit), np.int32))
        return self._add("DequantizeLinear", [integers, scale, point], f"{name}.DQ", axis=0)

    def _constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def _add(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [output], output, **attributes))
        return output
