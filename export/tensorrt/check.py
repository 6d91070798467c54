"""Check an ONNX graph against the rules of TensorRT's parser, and report violations with a remedy.

    model = read_onnx("model.onnx")
    check(model, "model.onnx", version="8.5.2.2")     # a ShrikeError that names the node and the remedy

Rules: Q/DQ symmetric, INT8, with an explicit zero point of 0, scales above 0, weights per channel on axis 0; no INT32
bias behind a DequantizeLinear; opset 17 at most before TensorRT 10.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package
from runtime.support.suggestions import nearby

if TYPE_CHECKING:
    import onnx

NEWEST_OPSET_OF_8 = 17
LARGEST_ONNX = 1 << 30  # bytes
SHOWN = 3  # faults that the error lists
REQUANTISE = "python -m export.onnx MODEL.pt --precision int8 --target tensorrt writes one that TensorRT takes"


def load_onnx_package() -> Any:
    """Import the onnx package, which a device's Python may lack."""
    return require_package("onnx")


def read_onnx(path: Path) -> "onnx.ModelProto":
    """Read a graph and run ONNX's checker."""
    onnx = load_onnx_package()
    try:
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise ShrikeError(f"{path} {state}; python -m export.onnx writes such files{nearby(path)}")
        if path.stat().st_size > LARGEST_ONNX:
            raise ShrikeError(f"{path} is larger than {LARGEST_ONNX >> 20:,} MiB: not a model of Shrike")
        model = onnx.load_model_from_string(path.read_bytes())
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise ShrikeError(f"{path} has weights in other files, which the card does not cover: export it again")
        onnx.checker.check_model(model)
    except OSError as error:
        raise ShrikeError(f"{path} cannot be read: {error.strerror}") from error
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ShrikeError(f"{path} is not a valid ONNX file; export it again ({_first_line(error)})") from error
    except Exception as error:  # protobuf's DecodeError, which moved between its versions
        if type(error).__name__ != "DecodeError":
            raise
        raise ShrikeError(f"{path} is not an ONNX file; export it again ({_first_line(error)})") from error
    return model


def is_quantised(model: "onnx.ModelProto") -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def check(model: "onnx.ModelProto", name: str, version: str | None = None) -> None:
    """Raise ShrikeError for a graph that the parser would refuse; `version` is TensorRT's, if known."""
    faults = [*_opset_faults(model, version), *_quantisation_faults(model, version)]
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ShrikeError(f"{name} is not for TensorRT: {'; '.join(faults[:SHOWN])}{more}; {REQUANTISE}")


def _opset_faults(model: "onnx.ModelProto", version: str | None) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"operators of {entry.domain}, which TensorRT does not support"
        elif version is not None and version.startswith("8.") and entry.version > NEWEST_OPSET_OF_8:
            yield f"opset {entry.version}, but TensorRT {version} reads {NEWEST_OPSET_OF_8} at most"


def _quantisation_faults(model: "onnx.ModelProto", version: str | None) -> Iterator[str]:
    onnx = load_onnx_package()
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    kinds = onnx.TensorProto.DataType
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        where = f"{node.op_type} {node.name or node.output[0]}"
        source = constants.get(node.input[0])
        if node.op_type == "DequantizeLinear" and source is not None:
            if source.data_type == kinds.INT32:
                yield f"{where} has an INT32 bias, ONNX Runtime's form for CPUs; TensorRT needs it in float"
                continue
            if source.data_type == kinds.INT8 and version is not None and version.startswith("8.5"):
                yield f"{where} has INT8 weights, which TensorRT {version} does not read"
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        scale = constants.get(node.input[1])
        if zero is None or scale is None:
            yield f"{where} has no constant scale and zero point"
            continue
        if zero.data_type != kinds.INT8:
            kind = kinds.Name(zero.data_type)
            yield f"{where} is {kind}: this is a file for CPUs (U8); TensorRT takes INT8 only"
        elif np.any(onnx.numpy_helper.to_array(zero)):
            yield f"{where} has a zero point other than 0; TensorRT takes symmetric quantisation only"
        factors = onnx.numpy_helper.to_array(scale).astype(np.float64)
        if not np.all(np.isfinite(factors) & (factors > 0)):
            yield f"{where} has a scale of 0 or below"
        if factors.size > 1 and source is not None and _axis(node) != 0 and _feeds_convolution(node, users):
            yield f"{where} quantises a convolution's weights along axis {_axis(node)} instead of 0"


def _axis(node: Any) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 1)


def _feeds_convolution(node: Any, users: dict[str, list[Any]]) -> bool:
    following = users.get(node.output[0], [])
    if node.op_type == "QuantizeLinear":
        following = [user for after in following for user in users.get(after.output[0], [])]
    return any(user.op_type == "Conv" for user in following)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
