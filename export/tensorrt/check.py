"""Check an ONNX graph against the rules of TensorRT's parser, and report violations with a remedy.

    model = read_onnx("model.onnx")
    check(model, "model.onnx", version="8.5.2.2")     # a ShrikeError that names the node and the remedy

Rules: Q/DQ symmetric, INT8, with an explicit zero point of 0, scales above 0, weights per channel on axis 0; no INT32
bias behind a DequantizeLinear; opset 17 at most before TensorRT 10.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from runtime.engines.onnx_safety import check_standalone
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

NEWEST_OPSET_OF_8 = 17
LARGEST_ONNX = 1 << 30  # bytes
SHOWN = 3  # faults that the error lists
REQUANTISE = "python -m export.onnx MODEL.pt --precision int8 --target tensorrt writes one that TensorRT takes"


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a graph that is complete in itself and run ONNX's checker."""
    try:
        if path.stat().st_size > LARGEST_ONNX:
            raise ShrikeError(f"{path} is larger than {LARGEST_ONNX >> 20:,} MiB: not a model of Shrike")
        data = path.read_bytes()
    except OSError as error:
        hint = f"python -m export.onnx writes such files{nearby(path)}"
        raise ShrikeError(f"{path} cannot be read: {error.strerror}; {hint}") from error
    check_standalone(data, path.name)
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's DecodeError among them, which moved between its versions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ShrikeError(f"{path} is not a valid ONNX file; export it again ({reason})") from error
    return model


def is_quantised(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def check(model: onnx.ModelProto, name: str, version: str | None = None) -> None:
    """Raise ShrikeError for a graph that the parser would refuse; `version` is TensorRT's, if known."""
    faults = [*_opset_faults(model, version), *_quantisation_faults(model, version)]
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ShrikeError(f"{name} is not for TensorRT: {'; '.join(faults[:SHOWN])}{more}; {REQUANTISE}")


def _opset_faults(model: onnx.ModelProto, version: str | None) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"operators of {entry.domain}, which TensorRT does not support"
        elif version is not None and version.startswith("8.") and entry.version > NEWEST_OPSET_OF_8:
            yield f"opset {entry.version}, but TensorRT {version} reads {NEWEST_OPSET_OF_8} at most"


def _quantisation_faults(model: onnx.ModelProto, version: str | None) -> Iterator[str]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    convolved = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input}
    for node in reversed(pairs):  # from a convolution back to what it reads
        convolved.update(node.input[:1] if node.output[0] in convolved else ())
    for node in pairs:
        where = f"{node.op_type} {node.name or node.output[0]}"
        source = constants.get(node.input[0])
        if node.op_type == "DequantizeLinear" and source is not None:
            if source.data_type == TensorProto.INT32:
                yield f"{where} has an INT32 bias, ONNX Runtime's form for CPUs; TensorRT needs it in float"
                continue
            if source.data_type == TensorProto.INT8 and version is not None and version.startswith("8.5"):
                yield f"{where} has INT8 weights, which TensorRT {version} does not read"
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        scale = constants.get(node.input[1])
        if zero is None or scale is None:
            yield f"{where} has no constant scale and zero point"
            continue
        if zero.data_type != TensorProto.INT8:
            kind = TensorProto.DataType.Name(zero.data_type)
            yield f"{where} is {kind}: this is a file for CPUs (U8); TensorRT takes INT8 only"
        elif np.any(numpy_helper.to_array(zero)):
            yield f"{where} has a zero point other than 0; TensorRT takes symmetric quantisation only"
        factors = numpy_helper.to_array(scale).astype(np.float64)
        if not np.all(np.isfinite(factors) & (factors > 0)):
            yield f"{where} has a scale of 0 or below"
        axis = next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 1)
        if factors.size > 1 and source is not None and axis != 0 and node.output[0] in convolved:
            yield f"{where} quantises a convolution's weights along axis {axis} instead of 0"
