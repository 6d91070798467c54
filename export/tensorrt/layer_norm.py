"""Replace LayerNormalization, which TensorRT reads from 8.6 on, by the operations it consists of.

graph = expand_layer_norm(read_onnx("model.onnx"))

x - mean -> d          d / sqrt(mean(d d) + epsilon) * scale + bias, all over the last axis
"""

from typing import Any

import numpy as np

from export.tensorrt.check import load_onnx_package

TYPE = "LayerNormalization"
LAST = -1  # the only axis that our networks normalise
EPSILON = 1e-5  # ONNX's default


def expand_layer_norm(model: Any) -> Any:
    """Return a copy without LayerNormalization; the model itself if it has none."""
    if all(node.op_type != TYPE for node in model.graph.node):
        return model
    onnx = load_onnx_package()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = []
    for node in copy.graph.node:
        nodes += _parts(node, copy.graph) if node.op_type == TYPE else [node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    onnx.checker.check_model(copy)
    return copy


def _parts(node: Any, graph: Any) -> list[Any]:
    onnx = load_onnx_package()
    value, scale, *bias = node.input
    name = node.name or node.output[0]
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    assert attributes.get("axis", LAST) == LAST and len(node.output) == 1, f"{name}: expected the last axis"
    epsilon = onnx.numpy_helper.from_array(np.float32(attributes.get("epsilon", EPSILON)), f"{name}.epsilon")
    graph.initializer.append(epsilon)

    def make(kind: str, inputs: list[str], result: str, **more: Any) -> Any:
        return onnx.helper.make_node(kind, inputs, [result], f"{name}.{kind}.{result}", **more)

    mean, difference, square, variance, sum_, root, unit, scaled = (
        f"{name}.{part}" for part in ("mean", "difference", "square", "variance", "sum", "root", "unit", "scaled")
    )
    return [
        make("ReduceMean", [value], mean, axes=[LAST]),
        make("Sub", [value, mean], difference),
        make("Mul", [difference, difference], square),
        make("ReduceMean", [square], variance, axes=[LAST]),
        make("Add", [variance, epsilon.name], sum_),
        make("Sqrt", [sum_], root),
        make("Div", [difference, root], unit),
        make("Mul", [unit, scale], scaled if bias else node.output[0]),
        *([make("Add", [scaled, bias[0]], node.output[0])] if bias else []),
    ]
