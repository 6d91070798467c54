"""What a graph computes: multiply-adds of its convolutions and matrix products for one window, or one step.

multiply_adds(Path("model.onnx"))          # None where its sizes are open, as a peer's may be
"""

import math
from pathlib import Path

import onnx
from onnx import shape_inference


def multiply_adds(path: Path) -> int | None:
    """Counted from the shapes in the file; an open batch is one."""
    model = shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            shapes[node.output[0]] = list(node.attribute[0].t.dims)
    for port in (*graph.input, *graph.value_info, *graph.output):
        sizes = [size.dim_value for size in port.type.tensor_type.shape.dim]
        shapes[port.name] = [size or (1 if place == 0 else 0) for place, size in enumerate(sizes)]
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        first, second, output = (shapes.get(name, [0]) for name in (*node.input[:2], node.output[0]))
        if node.op_type == "Gemm":
            turned = next((item.i for item in node.attribute if item.name == "transA"), 0)
            inner = first[0 if turned else -1]
        else:
            inner = math.prod(second[1:]) if node.op_type == "Conv" else first[-1]
        work = inner * math.prod(output)
        if work == 0:
            return None
        total += work
    return total
