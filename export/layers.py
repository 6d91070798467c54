"""Which layers of an engine compute in INT8, read from TensorRT's engine inspector.

    found = read_layers(engine.layers(trt))
    found.floating                      # names of weighted layers that read no INT8 tensor

The inspector's JSON differs between versions in the words for a format ("Thirty-two wide channel vectorized row major
Int8 format", "Int8 NC/32HW32"), not in that "Int8" stands in them. A subgraph that TensorRT compiles as a whole
(ForeignNode) does not show what happens inside; it is counted apart, not guessed.
"""

import json
from dataclasses import dataclass
from typing import Any

from runtime.errors import ShrikeError

# Kinds of layers that hold weights. Their names by version: CaskConvolution and the like are 8.x to 10.x, gemm is newer.
WEIGHTED = ("convolution", "gemm", "matrixmultiply", "matmul", "fullyconnected", "fullconnect")
OPAQUE = ("myelin", "foreignnode", "kgen")


@dataclass(frozen=True)
class Layers:
    """The names of an engine's layers, by what they compute in."""

    integer: tuple[str, ...]  # weighted, reads INT8
    floating: tuple[str, ...]  # weighted, reads no INT8
    opaque: tuple[str, ...]  # compiled as a whole
    other: int  # reformatting, pooling, activation

    def sentences(self) -> list[str]:
        """What a person wants to know, the layers that did not become INT8 by name."""
        counted = len(self.integer) + len(self.floating)
        lines = [f"{len(self.integer)} of {counted} weighted layers compute in INT8, {self.other} layers have no weights"]
        lines += [f"not INT8: {name}" for name in self.floating]
        lines += [f"compiled as a whole, precision inside not shown: {name}" for name in self.opaque]
        return lines


def read_layers(text: str) -> Layers:
    """The inspector's JSON; an engine built without detail has only names, and is refused."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise ShrikeError("TensorRT's engine inspector gave no list of layers") from error
    if not all(isinstance(layer, dict) for layer in layers):
        raise ShrikeError("the engine knows only its layers' names: build it with --profilingVerbosity=detailed")
    kinds: dict[str, list[str]] = {"integer": [], "floating": [], "opaque": [], "other": []}
    for layer in layers:
        kinds[_kind(layer)].append(str(layer.get("Name", "without a name")))
    return Layers(tuple(kinds["integer"]), tuple(kinds["floating"]), tuple(kinds["opaque"]), len(kinds["other"]))


def _kind(layer: dict[str, Any]) -> str:
    what = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    if any(word in what for word in WEIGHTED):
        return "integer" if _reads_int8(layer) else "floating"
    if any(word in what for word in OPAQUE) or "ForeignNode" in str(layer.get("Name", "")):
        return "opaque"
    return "other"


def _reads_int8(layer: dict[str, Any]) -> bool:
    inputs = layer.get("Inputs") or []
    formats = [f"{tensor.get('Format/Datatype', '')} {tensor.get('Format', '')} {tensor.get('Datatype', '')}" for tensor in inputs]
    return any("int8" in kind.lower() for kind in formats)
