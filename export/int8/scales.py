"""Scales without ties: no value of an INT8 layer lies half way between two integers, so all arithmetic rounds it alike.

    scales = without_ties(model, layers, ranges)        # tensor or weight -> scale, for export.int8.quantize

A layer's result is round(sum * M): a sum of integers, and M from its scales. With M = 1/n, n odd, there is no tie:

    n = 4   ... 1.25  1.5  1.75 ...      1.5 is a tie: the last bit of a float decides
    n = 5   ... 1.2   1.4  1.6  1.8      values are at least half an n-th from a tie, a thousand times a float's error

So S8, which ONNX Runtime computes in float, and U8, in integers, give the same integers. Scales only grow: no further
value is clipped.

    Conv   M = input * weight / output       the weight's scales are adjusted, one for every channel
    Mul    M = value * gate / output         the value's scale is adjusted, that of the convolution before the gate
    Pool   M = input / (cells * output)      the input's scale is adjusted
    Add    (i main + j skip) / n             the main branch's and the output's: all three are multiples of one unit
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.graph import INPUT, weights_of

if TYPE_CHECKING:
    from export.int8.quantize import Layer

LEVELS = 127  # largest integer; -128 stays unused, as TensorRT's symmetric weights leave it
SIGNED_LEVELS = 64  # of weights whose input U8 counts from 128: AVX2 adds two of its products in 16 bits, 2 x 255 x 64
SMALLEST_SCALE = 1e-8  # of a tensor that is always zero: TensorRT needs scales above 0
UNIT_PARTS = (512, 4096)  # of an Add's smallest scale, at least, and of its skip branch's, at most
MOVES = ("Transpose", "Unsqueeze")  # operators that change no value
LARGEST = 2**15  # of n: beyond it half an n-th is not far above a float's error

Ranges = dict[str, float]  # tensor -> largest magnitude that INT8 holds
Scales = dict[str, NDArray[np.float32]]  # tensor () or weight (channels,) -> value of one integer


def activation_scale(largest: float) -> np.float32:
    """Return the symmetric scale for a largest magnitude."""
    return np.float32(max(largest / LEVELS, SMALLEST_SCALE))


def weight_scales(weight: NDArray[np.float32], levels: int = LEVELS) -> NDArray[np.float32]:
    """Return one scale for every output channel, (channels,)."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return np.maximum(largest / np.float32(levels), np.float32(SMALLEST_SCALE)).astype(np.float32)


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Map every tensor to the node that computes it."""
    return {output: node for node in model.graph.node for output in node.output}


def never_negative(made_by: Mapping[str, onnx.NodeProto], name: str) -> bool:
    """True if a tensor has no negative values, so that U8's zero point may be 0."""
    node = made_by.get(name)
    if node is not None and node.op_type in ("Concat", "AveragePool", "Add"):
        # A state has the sign of the frames that it is joined to.
        sources = [source for source in node.input if not _of_a_state(made_by, source)]
        return all(never_negative(made_by, source) for source in sources)
    return node is not None and node.op_type in ("Relu", "Sigmoid")


def _of_a_state(made_by: Mapping[str, onnx.NodeProto], name: str) -> bool:
    """True if a tensor is a state: an input of the graph, transposed or not, other than the features."""
    node = made_by.get(name)
    return name != INPUT if node is None else node.op_type in MOVES and _of_a_state(made_by, node.input[0])


def scale_owners(model: onnx.ModelProto) -> dict[str, str]:
    """Map a Concat's inputs to its output, whose scale they take: then the Concat moves integers unchanged."""
    return {name: node.output[0] for node in model.graph.node if node.op_type == "Concat" for name in node.input}


def stateful_inputs(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Map a stateful convolution's input to the state and the new frames that a Concat joins to it."""
    states = {port.name for port in model.graph.input} - {INPUT}
    states |= {node.output[0] for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in states}
    read = {node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    concats = [node for node in model.graph.node if node.op_type == "Concat" and node.input[0] in states]
    return {node.output[0]: tuple(node.input) for node in concats if node.output[0] in read}


def without_ties(
    model: onnx.ModelProto,
    layers: "Sequence[Layer]",
    ranges: Ranges,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> Scales:
    """Compute the scale of every tensor and weight of these layers; `weights` replaces the model's own."""
    weights = weights_of(model) if weights is None else weights
    names = {name for layer in layers for name in (*layer.tensors, *layer.state)}
    owners = {name: name for name in names} | scale_owners(model)  # tensors of one owner share a scale
    scales: dict[str, Any] = {
        owner: float(activation_scale(ranges[owner])) for owner in {owners[name] for name in names}
    }
    made_by, nodes = producers(model), {node.name: node for node in model.graph.node}
    rounded = _rounded_as(model, names)
    for layer in layers:  # in the graph's order: the output of one Add is the skip branch of the next
        if layer.operation == "Add" and layer.name in rounded:
            main, skip, output = (owners[name] for name in (*layer.tensors, rounded[layer.name]))
            smallest = min(scales[name] for name in (main, skip, output))
            unit = scales[skip] / min(np.ceil(UNIT_PARTS[0] * scales[skip] / smallest), UNIT_PARTS[1])
            scales[main] = unit * np.ceil(scales[main] / unit)
            scales[output] = unit * (np.ceil(scales[output] / unit) // 2 * 2 + 1)
    for layer in layers:
        if layer.operation in ("Mul", "AveragePool") and layer.name in rounded:
            source, result = owners[layer.tensors[0]], scales[owners[rounded[layer.name]]]
            if layer.operation == "Mul":
                whole = result / scales[owners[layer.tensors[1]]]
            else:
                whole = result * math.prod(helper.get_node_attr_value(nodes[layer.name], "kernel_shape"))
            scales[source] = _dividing(whole, scales[source])
    found = {name: scales[owners[name]] for name in names}
    for layer in layers:
        if layer.weight:
            weight, (source,) = weights[layer.weight], layer.tensors
            weight = weight.T if layer.operation == "MatMul" else weight
            sums = weight[0].size > 1 and not never_negative(made_by, source)
            scale = weight_scales(weight, SIGNED_LEVELS if sums else LEVELS).astype(np.float64)
            if layer.name in rounded:
                scale = _dividing(found[rounded[layer.name]] / found[source], scale)
            found[layer.weight] = scale
    return {name: np.asarray(scale, np.float32) for name, scale in found.items()}


def _dividing(whole: Any, scale: Any) -> Any:
    """Grow the scale until it divides `whole` by an odd number; leave it where that number is out of range."""
    n = np.floor((whole / scale - 1) / 2) * 2 + 1
    return np.where((n >= 1) & (n < LARGEST), whole / np.maximum(n, 1), scale)


def _rounded_as(model: onnx.ModelProto, names: Collection[str]) -> dict[str, str]:
    """Map a layer to the tensor that quantises its result: its own output, or that of the Relu behind it."""
    behind = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    found = {}
    for node in model.graph.node:
        output = node.output[0]
        output = output if output in names else behind.get(output, "")
        if output in names:
            found[node.name] = output
    return found
