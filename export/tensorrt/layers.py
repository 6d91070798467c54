"""Read from TensorRT's engine inspector which layers of an engine compute in INT8.

    found = read_layers(engine.layers(trt))
    found.floating                      # names of weighted layers that are not INT8

A layer's entry names the type of its weights ("Int8", "Half") and the format of its inputs ("Thirty-two wide channel
vectorized row major Int8 format", worded differently in other versions). A subgraph that TensorRT compiles as a whole
(ForeignNode) hides its layers; it is counted separately.
"""

import json
from dataclasses import dataclass
from typing import Any

from runtime.support.errors import ShrikeError

# Kinds of layers with weights, named by 8.5 to 11: CaskConvolution, Convolution, gemm, ...
WEIGHTED = ("convolution", "gemm", "matrixmultiply", "matmul", "fullyconnected", "fullconnect")
OPAQUE = ("myelin", "foreignnode", "kgen")


@dataclass(frozen=True)
class EngineLayers:
    """The names of an engine's layers, by number format."""

    integer: tuple[str, ...]  # weighted, in INT8
    floating: tuple[str, ...]  # weighted, not in INT8
    opaque: tuple[str, ...]  # compiled as a whole
    other: int  # reformatting, pooling, activation

    def report(self) -> list[str]:
        """List every layer with weights and its format, then the sum."""
        counted = len(self.integer) + len(self.floating)
        lines = [f"INT8      {name}" for name in self.integer]
        lines += [f"not INT8  {name}" for name in self.floating]
        lines += [f"opaque    {name} (compiled as a whole: its layers are not shown)" for name in self.opaque]
        return [
            *lines,
            f"{len(self.integer)} of {counted} weighted layers in INT8; {self.other} layers have no weights",
        ]


def read_layers(text: str) -> EngineLayers:
    """Read the inspector's JSON; refuse an engine built without detail, which has only names."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise ShrikeError("TensorRT's engine inspector gave no list of layers; build the engine again") from error
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ShrikeError("the engine has only its layers' names: build it with --profilingVerbosity=detailed")
    named = [(_kind(layer), str(layer.get("Name", "without a name"))) for layer in layers]
    integer, floating, opaque, other = (
        tuple(name for kind, name in named if kind == wanted) for wanted in ("integer", "floating", "opaque", "other")
    )
    return EngineLayers(integer, floating, opaque, len(other))


def _kind(layer: dict[str, Any]) -> str:
    described = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    if any(word in described for word in WEIGHTED):
        return "integer" if _computes_in_int8(layer) else "floating"
    if any(word in described for word in OPAQUE) or "ForeignNode" in str(layer.get("Name", "")):
        return "opaque"
    return "other"


def _computes_in_int8(layer: dict[str, Any]) -> bool:
    """Decide by the type of its weights; where the inspector omits it, by the format of its inputs."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and "Type" in weights:
        return "int8" in str(weights["Type"]).lower()
    formats = [
        str(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs") or [] if isinstance(tensor, dict)
    ]
    return any("int8" in kind.lower() for kind in formats)
