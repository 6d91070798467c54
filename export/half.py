"""Half precision written into the graph, for TensorRT 11 and later, which take types from the graph alone.

    strongly_typed = half(read_onnx("model.onnx"))       # float32 in, float32 out, float16 between

    float32   features - level -. cast             cast .- logits
    float16                     '- Conv ... Gemm -------'      Q/DQ scales and weights as well: opset 19

The front-end's level stays in float32: the sum of 27,000 log powers overflows half (65,504). Weights behind Q/DQ are
quantised here, from float32 with the scale as half keeps it, so that no weight is rounded twice.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from export.parsable import load_onnx_package
from runtime.errors import ShrikeError

if TYPE_CHECKING:
    import onnx

OPSET = 19  # the first whose QuantizeLinear takes half
SMALLEST = 2.0**-24  # half's smallest positive number: no scale may become 0
LARGEST = 65_504.0  # half's largest number
WEIGHTED = ("Conv", "Gemm", "MatMul")


def half(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy with everything behind the first weighted layer's input in float16."""
    onnx = load_onnx_package()
    graph_model = onnx.version_converter.convert_version(model, OPSET)
    graph = graph_model.graph
    del graph.value_info[:]
    _constants_to_initializers(graph)
    _quantise_weights(graph)
    before = _before_first_layer(graph)
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in before:
            values = onnx.numpy_helper.to_array(tensor)
            if np.any(np.abs(values) > LARGEST):
                raise ShrikeError(
                    f"{tensor.name} holds values above {LARGEST:,.0f}, half's largest: use --precision fp32"
                )
            if tensor.name in scales:
                values = np.maximum(values, SMALLEST)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
    _cast_boundaries(graph, before)
    _drop_unused(graph)
    onnx.checker.check_model(graph_model)
    return graph_model


def _constants_to_initializers(graph: Any) -> None:
    """One place for constants, so that one loop converts them."""
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def _quantise_weights(graph: Any) -> None:
    """constant -> Q -> DQ becomes INT8 constant -> DQ."""
    onnx = load_onnx_package()
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in constants]:
        weight, scale = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[:2])
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        shape = [-1 if number == axis else 1 for number in range(weight.ndim)] if scale.size > 1 else []
        kept = np.maximum(scale.astype(np.float16), np.float16(SMALLEST)).astype(np.float32)
        values = np.clip(np.rint(weight / kept.reshape(shape)), -128, 127).astype(np.int8)
        graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)


def _before_first_layer(graph: Any) -> set[str]:
    """Tensors that stay in float32: all from the input to the first weighted layer, without that layer's Q/DQ."""
    reached, kept = {graph.input[0].name}, {graph.input[0].name}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        variables = [name for name in node.input if name and name not in constants]
        if not variables or not set(variables) <= reached:
            continue
        reached.update(node.output)
        if node.op_type in WEIGHTED or node.op_type == "QuantizeLinear":
            reached.difference_update(node.output)
        else:
            kept.update([*node.output, *(name for name in node.input if name in constants)])
    return kept


def _cast_boundaries(graph: Any, before: set[str]) -> None:
    """A cast where float32 ends, and one behind the last layer."""
    onnx = load_onnx_package()
    wide, narrow = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    casts: dict[str, Any] = {}
    for node in graph.node:
        if set(node.output) <= before:
            continue
        for number, name in enumerate(node.input):
            if name in before:
                if name not in casts:
                    casts[name] = onnx.helper.make_node("Cast", [name], [f"{name}_half"], f"{name}_to_half", to=narrow)
                node.input[number] = f"{name}_half"
    output = graph.output[0].name
    for node in graph.node:
        for number, name in enumerate(node.output):
            if name == output:
                node.output[number] = f"{output}_half"
    nodes = list(graph.node)
    for name, cast in casts.items():
        first = next(number for number, node in enumerate(nodes) if f"{name}_half" in node.input)
        nodes.insert(first, cast)
    nodes.append(onnx.helper.make_node("Cast", [f"{output}_half"], [output], f"{output}_to_float", to=wide))
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: Any) -> None:
    """The float weights whose INT8 form has taken their place."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
