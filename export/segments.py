"""The network cut where its exits stand: one graph from the window to the first exit, one from there to the next, ...

    segments = split(model, (2, 4))             # of a graph with all exits (export.strip.strip_exits)
    whole = keep(model, [OUTPUT])               # the same without the shallow exits: what export.onnx writes
    costs = multiply_adds(float_model)          # node -> for one window

    features -> segment -> map, logits2 -> segment -> logits

A segment's nodes and constants are the whole network's own, so that its integers are. The map that goes on is the one
that the next stage computes with: in INT8 the integers themselves, a quarter of their floats; and a float map only
where a layer behind it stays float.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import helper

from export.graph import INPUT, OUTPUT, assemble, check, exit_output, weights_of
from export.record import WHOLE
from export.scales import producers

ROUNDING = frozenset({"QuantizeLinear", "Clip", "DequantizeLinear"})  # what a tensor passes between float and float


@dataclass(frozen=True)
class Part:
    """One segment."""

    exit: int
    graph: onnx.ModelProto
    logits: str
    map: onnx.ValueInfoProto | None  # what goes on to the next; None behind the last


def split(model: onnx.ModelProto, exits: Sequence[int]) -> list[Part]:
    """A graph for each of these exits, shallow to deep; the last must be the whole network's."""
    assert exits[-1] == WHOLE and list(exits) == sorted(set(exits))
    made_by = producers(model)
    infos = {item.name: item for item in _known_shapes(model)}
    parts, source = [], infos[INPUT]
    for place, exit in enumerate(exits):
        logits = _logits(exit)
        onward = [_logits(later) for later in exits[place + 1 :]]
        sent = _map(made_by, source.name, logits, onward) if onward else None
        wanted = [logits, *([sent] if sent else [])]
        graph = _part(model, source, [infos[name] for name in wanted])
        parts.append(Part(exit, graph, logits, infos[sent] if sent else None))
        if sent:
            source = infos[sent]
    return parts


def keep(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph with these outputs alone, and without what only others need."""
    infos = {item.name: item for item in (*model.graph.input, *model.graph.output)}
    return _part(model, infos[INPUT], [infos[name] for name in outputs])


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Of every convolution and matrix product of a float graph, for one window."""
    shapes = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in _known_shapes(model)}
    weights = weights_of(model)
    found = {}
    for node in model.graph.node:
        if node.op_type in (
            "Conv",
            "Gemm",
        ):  # of the weight what one output sees
            found[node.name] = math.prod(shapes[node.output[0]]) * weights[node.input[1]][0].size
    return found


def spent(costs: Mapping[str, int], part: Part) -> int:
    """Multiply-adds of one segment."""
    return sum(costs.get(node.name, 0) for node in part.graph.graph.node)


def shape_of(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(size.dim_value for size in info.type.tensor_type.shape.dim)


def type_of(info: onnx.ValueInfoProto) -> Literal["float32", "uint8"]:
    return "float32" if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT else "uint8"


def _logits(exit: int) -> str:
    return OUTPUT if exit == WHOLE else exit_output(exit)


def _known_shapes(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return [*graph.input, *graph.value_info, *graph.output]


def _needed(made_by: Mapping[str, onnx.NodeProto], outputs: Iterable[str], given: Collection[str]) -> set[str]:
    """Every tensor that these outputs are computed from, as far as what is given."""
    waiting, found = list(outputs), set()
    while waiting:
        name = waiting.pop()
        if name in found or name in given or name not in made_by:
            continue
        found.add(name)
        waiting += made_by[name].input
    return found


def _map(made_by: Mapping[str, onnx.NodeProto], source: str, logits: str, onward: Sequence[str]) -> str:
    """The one tensor from which all that follows the exit can be computed."""
    done = _needed(made_by, [logits], [source])
    later = _needed(made_by, onward, [source]) - done
    crossing = {name for tensor in later for name in made_by[tensor].input if name in done or name == source}
    roots = {_unrounded(made_by, name) for name in crossing}
    assert len(roots) == 1, f"what follows {logits} needs {sorted(roots)}: it cannot be cut there"
    (root,) = roots
    if root in crossing:  # a float layer follows: it rounds again what it rounds
        return root
    integers = {made_by[name].input[0] for name in crossing}
    assert len(integers) == 1, f"what follows {logits} reads {sorted(crossing)}"
    return integers.pop()


def _unrounded(made_by: Mapping[str, onnx.NodeProto], name: str) -> str:
    while name in made_by and made_by[name].op_type in ROUNDING:
        name = made_by[name].input[0]
    return name


def _part(
    model: onnx.ModelProto, source: onnx.ValueInfoProto, outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    made_by, weights = producers(model), weights_of(model)
    needed = _needed(made_by, [item.name for item in outputs], [source.name])
    nodes = [node for node in model.graph.node if node.output[0] in needed]
    used = {name for node in nodes for name in node.input}
    part = assemble(nodes, [_bare(source)], map(_bare, outputs), {k: v for k, v in weights.items() if k in used})
    check(part)
    return part


def _bare(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Name, type and shape, whatever else inference left there."""
    tensor = info.type.tensor_type
    sizes = [size.dim_param or size.dim_value for size in tensor.shape.dim]
    return helper.make_tensor_value_info(info.name, tensor.elem_type, sizes)
