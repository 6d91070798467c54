"""Convert a graph to FP16 for strongly typed TensorRT (11, RTX), which takes types from the graph.

    strongly_typed = half(read_onnx("model.onnx"))       # float32 in, float32 out, float16 between

    float32   features - level -. cast             cast .- logits
    float16                     '- Conv ... Gemm -------'      Q/DQ scales and weights as well: opset 19

States that are averages stay in float32 too: a running average would stop changing where a step is below FP16's
precision, and the mean of the newest frames is a sum of 75. States of convolutions are FP16 inside.

The front-end's level stays in float32: the sum of 27,000 log powers overflows FP16 (65,504). Weights behind Q/DQ are
quantised here, from float32 with the FP16 scale, so that no weight is rounded twice.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from runtime.support.errors import ShrikeError

OPSET = 19  # the first whose QuantizeLinear takes half
SMALLEST = 2.0**-24  # FP16's smallest positive number: no scale may become 0
LARGEST = 65_504.0  # FP16's largest number
WEIGHTED = ("Conv", "Gemm", "MatMul")


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with everything behind the first weighted layer's input in float16."""
    graph_model = version_converter.convert_version(model, OPSET)
    graph = graph_model.graph
    del graph.value_info[:]
    _constants_to_initializers(graph)
    _quantise_weights(graph)
    before = _before_first_layer(graph) | _averages(graph)
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in before:
            values = numpy_helper.to_array(tensor)
            if np.any(np.abs(values) > LARGEST):
                raise ShrikeError(
                    f"{tensor.name} has values above {LARGEST:,.0f}, FP16's largest: use --precision fp32"
                )
            if tensor.name in scales:
                values = np.maximum(values, SMALLEST)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.node:  # an explicit float32 in the network, of the encoder's statistics
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT and node.output[0] not in before:
            node.attribute[0].i = TensorProto.FLOAT16
    _cast_boundaries(graph, before)
    _drop_unused(graph)
    onnx.checker.check_model(graph_model)
    return graph_model


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initialisers, so that one loop converts them."""
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def _quantise_weights(graph: onnx.GraphProto) -> None:
    """Replace constant -> Q -> DQ by INT8 constant -> DQ."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in constants]:
        weight, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        shape = [-1 if number == axis else 1 for number in range(weight.ndim)] if scale.size > 1 else []
        rounded = np.maximum(scale.astype(np.float16), np.float16(SMALLEST)).astype(np.float32)
        values = np.clip(np.rint(weight / rounded.reshape(shape)), -128, 127).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)


def _before_first_layer(graph: onnx.GraphProto) -> set[str]:
    """Find the tensors from the input to the first weighted layer, without that layer's Q/DQ."""
    reached, wide = {port.name for port in graph.input}, {port.name for port in graph.input}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        variables = [name for name in node.input if name and name not in constants]
        if not variables or not set(variables) <= reached:
            continue
        reached.update(node.output)
        if node.op_type in WEIGHTED or node.op_type == "QuantizeLinear":
            reached.difference_update(node.output)
        else:
            wide.update([*node.output, *(name for name in node.input if name in constants)])
    return wide


def _averages(graph: onnx.GraphProto) -> set[str]:
    """Find the tensors between an averaged state and its next one, and all behind the last state, the logits' mean."""
    constants = {tensor.name for tensor in graph.initializer}
    found: set[str] = set()
    pairs = list(zip(graph.input, graph.output, strict=True))[1:]
    for state, following in pairs:
        after, before = {state.name}, {following.name}
        for node in graph.node:
            if not after.isdisjoint(node.input):
                after.update(node.output)
        for node in reversed(graph.node):
            if not before.isdisjoint(node.output):
                before.update(node.input)
        last = state.name == pairs[-1][0].name
        inside = [node for node in graph.node if after.issuperset(node.output) and (last or node.output[0] in before)]
        between = {state.name, *(name for node in inside for name in node.output)}
        readers = [node.op_type for node in graph.node if not between.isdisjoint(node.input)]
        if not last and not {"Conv", "QuantizeLinear"}.isdisjoint(readers):
            continue
        found |= between.union(*({name for name in node.input if name in constants} for node in inside))
    return found


def _cast_boundaries(graph: onnx.GraphProto, before: set[str]) -> None:
    """Insert a cast wherever float32 ends or begins again; outputs are float32."""
    constants = {tensor.name for tensor in graph.initializer}
    leaving = {port.name for port in graph.output} - before
    inner = {name: f"{name}_half" for name in leaving}
    nodes, done = list[onnx.NodeProto](), set[str]()
    for node in graph.node:
        inside = set(node.output) <= before
        for number, name in enumerate(node.input):
            node.input[number] = inner.get(name, name)
            if not name or (name in before) == inside or (inside and name in constants):
                continue
            end, kind = ("float", TensorProto.FLOAT) if inside else ("half", TensorProto.FLOAT16)
            if name not in done:
                done.add(name)
                nodes.append(
                    helper.make_node("Cast", [node.input[number]], [f"{name}_{end}"], f"{name}_to_{end}", to=kind)
                )
            node.input[number] = f"{name}_{end}"
        node.output[:] = [inner.get(name, name) for name in node.output]
        nodes.append(node)
    for name in sorted(leaving):
        nodes.append(helper.make_node("Cast", [inner[name]], [name], f"{name}_to_float", to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove float weights that their INT8 form has replaced."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
