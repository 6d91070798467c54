"""Quantisation: the placement of Q/DQ, and the two files with them: S8 for TensorRT, U8 for CPUs.

    layers = plan(model)                                    # layers that can compute in INT8
    ranges = find_ranges(model, tensors(layers), windows)   # export.int8.calibration
    s8 = quantise(model, layers, ranges, "int8")
    u8 = quantise(model, layers, ranges, "uint8")

Placement, as TensorRT fuses it: Q/DQ on the inputs of a layer, never on its output (drawn in docs/int8.md). Both
branches of an Add are quantised. NVIDIA's rule, the skip branch only, suits a convolution that adds in its own kernel;
in all networks but Res2Net50 the gate's Mul is between. It costs 0.5 dB and makes the U8 file a fifth faster: 2.2 times
ONNX Runtime's float on one core instead of 1.75. Without it a third of Res2Net50 would run in float there: ONNX Runtime
computes a convolution in INT8 only if its output is quantised too.

The inputs of a Concat take the scale of its output, so that Res2Net's groups, and a state with new frames, are joined
as integers. In the U8 file such a state is uint8 and is never requantised; in S8 it is float32 with the same values:

    U8   state uint8 -----------------+             S8   state --Q/DQ--+
         x --Q--+----------------> Concat --DQ--> Conv     x --Q/DQ--> Concat --Q/DQ--> Conv
                '--DQ--> shortcut     '--> Slice, the next state           '--> Slice, the next state

Both files have the same integers, and give the same logits to the last bit, because their scales avoid ties
(export.int8.scales). ONNX Runtime would compute every ReLU of the S8 form, TensorRT's, in float.

Why not onnxruntime.quantization: it quantises by kind of node, not by operand, so it treats both branches of an Add
alike; its INT32 bias does not parse in TensorRT; and two runs of it would not give one table of scales.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graph import INPUT, assemble, check, weights_of
from export.int8.scales import (
    LEVELS,
    Ranges,
    Scales,
    never_negative,
    producers,
    stateful_inputs,
    weight_scales,
    without_ties,
)

MIDDLE = 128  # zero point of a signed tensor in U8
JOINING = frozenset({"Add", "Mul", "Concat", "AveragePool"})  # INT8 without weights: all inputs are quantised

Kind = Literal["int8", "uint8"]


@dataclass(frozen=True)
class Layer:
    """A node that can compute in INT8."""

    name: str  # stages.0.0.body.0.Conv
    operation: str
    tensors: tuple[str, ...]  # its inputs that pass through Q/DQ
    weight: str | None = None
    bias: str | None = None
    state: tuple[str, ...] = ()  # of a stateful convolution: its state, and the new frames joined to it


def plan(model: onnx.ModelProto) -> list[Layer]:
    """List the layers that compute in INT8, in the graph's order."""
    encoder = encoder_part(model)
    pooled: set[str] = set()  # tensors between a mean and the gate's Mul or the logits: small, they stay float
    joined = stateful_inputs(model)
    known = {*weights_of(model), *(n.output[0] for n in model.graph.node if n.op_type == "Constant")}
    means = {node.input[0] for node in model.graph.node if node.op_type == "Reshape"}
    layers = []
    for node in model.graph.node:
        if encoder is not None and node.name.startswith(encoder):
            # Of a transformer only products with weights. A GELU lies between the convolutions, so they gain nothing.
            if node.op_type == "MatMul" and node.input[1] in known:
                layers.append(Layer(node.name, node.op_type, (node.input[0],), node.input[1]))
            elif node.op_type == "Gemm":
                pooled.update(node.output)
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):
            if node.input[0] not in (INPUT, *pooled):  # the level's mean needs full precision
                layers.append(Layer(node.name, node.op_type, (node.input[0],)))
            pooled.add(node.output[0])
        elif node.op_type == "MatMul" and INPUT in node.input:
            pooled.update(node.output)  # the level's mean of a step
        elif node.op_type == "Transpose" and node.output[0] in means and node.input[0] not in pooled:
            layers.append(Layer(node.name, "Mean", (node.input[0],)))  # of a step: its first node (streaming_ops)
            pooled.add(node.output[0])
        elif pooled.issuperset(set(node.input) - known) if node.op_type == "Mul" else not pooled.isdisjoint(node.input):
            if node.op_type != "Sub":
                pooled.update(node.output)
        elif node.op_type == "Conv":
            bias = node.input[2] if len(node.input) > 2 else None
            state = joined.get(node.input[0], ())
            layers.append(Layer(node.name, node.op_type, (node.input[0],), node.input[1], bias, state))
        elif node.op_type in JOINING and node.output[0] not in joined:
            layers.append(Layer(node.name, node.op_type, tuple(node.input)))
    return layers


def encoder_part(model: onnx.ModelProto) -> str | None:
    """Return the prefix of the names of a transformer's nodes: "" if it is the whole graph, None if there is none."""
    attention = next((node.name for node in model.graph.node if node.op_type == "Softmax"), None)
    if attention is None:
        return None
    return ".".join(attention.split(".")[:2]) + "." if attention.startswith("members.") else ""


def stored_in_int8(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, int]:
    """Map a transformer's weights that compute in float, yet are stored as INT8, to the axis that has a scale each.

    It is that of the outputs, but of the classifier that of the inputs: a folded batch norm gave each its own range.
    """
    encoder, weights, planned = encoder_part(model), weights_of(model), {layer.name for layer in layers}
    return {
        node.input[1]: 0 if node.op_type == "Conv" else 1
        for node in model.graph.node
        if encoder is not None and node.name.startswith(encoder) and node.name not in planned
        and node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in weights
    }  # fmt: skip


def float_by_design(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Layers with weights that are never quantised, and why."""
    planned, weights, encoder = {layer.name for layer in layers}, weights_of(model), encoder_part(model)
    why = {
        "Gemm": "the classifier: two dot products right before the score",
        "Conv": "inside a gate: too small to gain from INT8" if encoder is None else "between GELUs or inside a gate",
    }
    return {
        node.name: why[node.op_type]
        for node in model.graph.node
        if node.op_type in why and node.name not in planned and any(name in weights for name in node.input)
    }


def tensors(layers: Sequence[Layer]) -> list[str]:
    """List the tensors that need a range."""
    return list(dict.fromkeys(name for layer in layers for name in layer.tensors))


def quantise(model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, kind: Kind) -> onnx.ModelProto:
    """Write the graph with these layers in INT8; the others stay float.

    In U8 a transformer's weights are INT8 in any case: ONNX Runtime multiplies them by their scales when it loads them.
    """
    writer = _Writer(model, without_ties(model, layers, ranges), kind)
    wanted = {layer.name: layer for layer in layers}
    stateful = {layer.tensors[0]: layer.state for layer in layers if layer.state}
    states: dict[str, str] = {}  # joined tensor -> its integers
    stored = stored_in_int8(model, layers) if kind == "uint8" else {}
    products = {layer.name for layer in layers if layer.operation == "MatMul"}
    for source in model.graph.node:
        node = copy.deepcopy(source)
        if (joined := node.output[0]) in stateful and kind == "uint8":
            states[joined] = writer.join(node, *stateful[joined])
            continue
        if joined in stateful:
            node.input[:] = [writer.activation(name) for name in node.input]
        if node.op_type == "Slice" and node.input[0] in states:
            node.input[0] = states[node.input[0]]
        if layer := wanted.get(node.name):
            for place, name in enumerate(source.input):
                if name in layer.tensors:
                    node.input[place] = writer.activation(name)
            if layer.weight:
                node.input[1] = writer.weight(layer.weight, 1 if layer.operation == "MatMul" else 0)
                if layer.bias:
                    node.input[2] = writer.bias(layer.bias, layer.weight, layer.tensors[0])
        elif len(node.input) > 1 and node.input[1] in stored:
            node.input[1] = writer.stored(node.input[1], stored[node.input[1]])
        elif node.op_type == "Add" and not products.isdisjoint(node.input):
            writer.widen_bias(node)
        writer.nodes.append(node)
    used = {name for node in writer.nodes for name in node.input}
    constants = {name: value for name, value in writer.constants.items() if name in used}
    inputs, outputs = copy.deepcopy([*model.graph.input]), copy.deepcopy([*model.graph.output])
    pasts = {stateful[joined][0] for joined in states}
    _become_uint8(writer.nodes, [*inputs, *outputs], pasts, set(states.values()))
    quantised = assemble(writer.nodes, inputs, outputs, constants)
    check(quantised)
    return quantised


def _become_uint8(
    nodes: Sequence[onnx.NodeProto], ports: Sequence[onnx.ValueInfoProto], pasts: set[str], joined: set[str]
) -> None:
    """Change the ports of integer states to uint8: those that are joined, and those sliced off; transposed or not."""
    for node in nodes:
        if node.op_type == "Transpose" and node.output[0] in pasts:
            pasts.add(node.input[0])
        if node.op_type in ("Slice", "Transpose") and node.input[0] in joined:
            joined.add(node.output[0])
    for port in ports:
        if port.name in pasts | joined:
            port.type.tensor_type.elem_type = onnx.TensorProto.UINT8


class _Writer:
    """Nodes and constants of the new graph, with one Q/DQ pair for each tensor."""

    def __init__(self, model: onnx.ModelProto, scales: Scales, kind: Kind) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = weights_of(model)
        self.scales, self.unsigned = scales, kind == "uint8"
        self.producers = producers(model)
        self.done: dict[str, str] = {}

    def activation(self, name: str) -> str:
        """Write a tensor's Q/DQ pair; return its end."""
        return self._once(name, lambda: self._floats(name, self.integers(name)))

    def integers(self, name: str) -> str:
        return self._once(f"{name}.integers", lambda: self._integers(name))

    def _once(self, name: str, make: Callable[[], str]) -> str:
        if name not in self.done:
            self.done[name] = make()
        return self.done[name]

    def _integers(self, name: str) -> str:
        integers = self._add("QuantizeLinear", [name, *self._grid(name)], f"{name}.Q")
        if self.unsigned and never_negative(self.producers, name):
            # Clip without a lower bound instead of Min: before 1.24 ONNX Runtime has no Min of 8-bit integers.
            cut = self._constant("cut", np.array(LEVELS, np.uint8))
            integers = self._add("Clip", [integers, "", cut], f"{name}.cut")
        return integers

    def _floats(self, name: str, integers: str) -> str:
        return self._add("DequantizeLinear", [integers, *self._grid(name)], f"{name}.DQ")

    def _grid(self, name: str) -> tuple[str, str]:
        """Write scale and zero point of a tensor."""
        zero = MIDDLE if self.unsigned and not never_negative(self.producers, name) else 0
        scale = self._constant(f"{name}.scale", self.scales[name])
        return scale, self._constant(f"{name}.zero", np.array(zero, np.uint8 if self.unsigned else np.int8))

    def join(self, concat: onnx.NodeProto, state: str, frames: str) -> str:
        """Write a Concat of integers; `activation` of its output then reads it as if quantised there."""
        (joined,) = concat.output
        concat.input[:] = [state, self.integers(frames)]
        concat.output[0] = f"{joined}.Q"
        self.nodes.append(concat)
        self.done[joined] = self._floats(joined, concat.output[0])
        return concat.output[0]

    def weight(self, name: str, axis: int) -> str:
        """Write a weight with a scale for each output channel, which lie on `axis`."""
        weight, scales = self.constants[name], self.scales[name]
        scale = self._constant(f"{name}.scale", scales)
        point = self._constant(f"{name}.zero", np.zeros(len(scales), np.int8))
        if self.unsigned:
            columns = scales.reshape(-1, *[1] * (weight.ndim - 1 - axis))
            rounded = np.clip(np.rint(weight / columns), -LEVELS, LEVELS).astype(np.int8)
            integers = self._constant(f"{name}.int8", rounded)
        else:
            integers = self._add("QuantizeLinear", [name, scale, point], f"{name}.Q", axis=axis)
        return self._add("DequantizeLinear", [integers, scale, point], f"{name}.DQ", axis=axis)

    def stored(self, name: str, axis: int) -> str:
        """Write a weight of a float layer as INT8 and its scales."""
        weight = np.moveaxis(self.constants[name], axis, 0)
        scale = weight_scales(weight)
        shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
        integers = np.rint(self.constants[name] / scale.reshape(shape)).astype(np.int8)
        whole = self._add(
            "Cast", [self._constant(f"{name}.int8", integers)], f"{name}.float", to=onnx.TensorProto.FLOAT
        )
        return self._add("Mul", [whole, self._constant(f"{name}.scale", scale.reshape(shape))], f"{name}.scaled")

    def widen_bias(self, add: onnx.NodeProto) -> None:
        """Give a product's bias three dimensions: with one, ONNX Runtime makes the product a Gemm, in float."""
        for place, name in enumerate(add.input):
            if name in self.constants and self.constants[name].ndim == 1:
                add.input[place] = self._constant(f"{name}.wide", self.constants[name].reshape(1, 1, -1))

    def bias(self, name: str, weight: str, source: str) -> str:
        """Write the bias as INT32 in units of the accumulator; in S8 the same values as floats."""
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
