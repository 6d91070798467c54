"""Replace LayerNormalization, which TensorRT reads from 8.6 on, by the operations it consists of.

graph = expand_layer_norm(read_onnx("model.onnx"))
"""

import copy

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper, parser

TYPE = "LayerNormalization"
LAST = -1  # the only axis that our networks normalise
EPSILON = 1e-5  # ONNX's default
OWN = "shrike"  # domain of the function that the inliner dissolves
PARTS = """
<domain: "shrike", opset_import: ["" : 17]>
LayerNormalization (x, scale, bias, epsilon) => (y) {
    mean = ReduceMean <axes = [-1]> (x)
    difference = Sub (x, mean)
    square = Mul (difference, difference)
    variance = ReduceMean <axes = [-1]> (square)
    shifted = Add (variance, epsilon)
    deviation = Sqrt (shifted)
    unit = Div (difference, deviation)
    scaled = Mul (unit, scale)
    y = Add (scaled, bias)
}
"""


def expand_layer_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without LayerNormalization; the model itself if it has none."""
    changed = copy.deepcopy(model)
    found = [node for node in changed.graph.node if node.op_type == TYPE]
    if not found:
        return model
    for node in found:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        fits = attributes.get("axis", LAST) == LAST and len(node.input) == 3 and len(node.output) == 1
        assert fits, f"{node.name}: expected scale and bias over the last axis"
        epsilon = np.array(attributes.get("epsilon", EPSILON), np.float32)
        changed.graph.initializer.append(numpy_helper.from_array(epsilon, f"{node.name}.epsilon"))
        node.input.append(f"{node.name}.epsilon")
        node.domain = OWN
        del node.attribute[:]
    changed.functions.append(parser.parse_function(PARTS))
    changed.opset_import.append(helper.make_opsetid(OWN, 1))
    expanded = inliner.inline_local_functions(changed)
    for entry in [entry for entry in expanded.opset_import if entry.domain == OWN]:
        expanded.opset_import.remove(entry)
    onnx.checker.check_model(expanded)
    return expanded
