"""ONNX graphs of traced networks: tidied, assembled, checked.

A tidy graph has names that follow the modules (`stages.0.0.body.0.Conv`), own weights for each node, no foreign
opsets, and the same bytes for the same network.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtime import __version__

INPUT, OUTPUT = "features", "logits"  # (batch, 1, bands, frames) raw log power; (batch, 2) spoof, bona fide
OPSET = 17  # the newest that TensorRT 8.5 reads
IR_VERSION = 8  # what belongs to opset 17

Floats = NDArray[np.float32]


def tidy(model: onnx.ModelProto, around: str) -> onnx.ModelProto:
    """Return a model with readable names and no redundant nodes; `around` prefixes what was wrapped for tracing."""
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    alias = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    names = {port.name: port.name for port in (*model.graph.input, *model.graph.output)}
    nodes: list[onnx.NodeProto] = []
    used: dict[str, NDArray[Any]] = {}
    for source in model.graph.node:
        if source.op_type == "Identity":
            continue
        node = copy.deepcopy(source)
        inner, whole = _readable(source.name).removeprefix(around), source.name.strip("/").replace("/", ".")
        node.name = whole if any(node.name == inner for node in nodes) else inner
        for place, value in enumerate(source.input):
            value = alias.get(value, value)
            if value in weights:
                # Equal weights are shared by the tracer; quantised, each needs its own scale.
                weighted = node.op_type in ("Conv", "Gemm")
                layer = node.name.rpartition(".")[0]
                own = f"{layer}.{('weight', 'bias')[place - 1]}" if weighted else f"{node.name}.{place}"
                used[own] = weights[value]
                node.input[place] = own
            elif value:  # optional inputs that are left out have no name
                node.input[place] = names[value]
        for place, value in enumerate(source.output):
            node.output[place] = names.setdefault(value, node.name if place == 0 else f"{node.name}.{place}")
        nodes.append(node)
    return assemble(nodes, [port for port in model.graph.input if port.name not in weights], model.graph.output, used)


def assemble(
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    weights: dict[str, NDArray[Any]],
) -> onnx.ModelProto:
    """Make a model of these nodes with our opset, IR version and producer."""
    constants = [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "shrike", list(inputs), list(outputs), constants)
    return helper.make_model(
        graph,
        producer_name="shrike",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def check(model: onnx.ModelProto) -> None:
    """Run onnx.checker with full shape inference; a failure is our bug."""
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]


def has_signed_activations(model: onnx.ModelProto) -> bool:
    """True if a tensor is quantised to S8, as in models for TensorRT."""
    types = {value.name: value.data_type for value in model.graph.initializer}
    nodes = (node for node in model.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2)
    return any(types.get(node.input[2]) == onnx.TensorProto.INT8 for node in nodes)


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return all initialisers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def score(logits: Floats) -> NDArray[np.float64]:
    """Logits (n, 2) -> scores (n,): bona fide minus spoof, higher is bona fide."""
    wide = logits.astype(np.float64)
    return wide[:, 1] - wide[:, 0]


def _readable(name: str) -> str:
    """/stages/stages.0/stages.0.0/gate/Mul -> stages.0.0.gate.Mul"""
    parts = name.strip("/").split("/")
    return ".".join(a for a, b in zip(parts, [*parts[1:], ""], strict=True) if not b.startswith(f"{a}."))
