"""The network as an ONNX graph: traced from torch, tidied, checked, and run.

    model = trace(network, frontend)                  # opset 17, features -> logits
    scores = run(model, windows)                      # ONNX Runtime on one core, a window at a time

A tidy graph has names that follow the modules (`stages.0.0.body.0.Conv`), own weights for each node, no foreign
opsets, and the same bytes for the same network.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtime import __version__
from runtime.audio.features import FrontEnd

if TYPE_CHECKING:
    import onnxruntime
    from torch import nn

INPUT, OUTPUT = "features", "logits"  # (batch, 1, bands, frames) raw log power; (batch, 2) spoof, bona fide
OPSET = 17  # the newest that TensorRT 8.5 reads
IR_VERSION = 8  # what belongs to opset 17
TOLERANCE = 1e-5  # of a logit, relative above 1: float32 sums in another order
PROBES = 4  # windows on which ONNX Runtime is compared with torch

Floats = NDArray[np.float32]
Forward = Callable[[Floats], Floats]  # a window (1, 1, bands, frames) -> logits (1, 2), or a clip -> (steps, 2)


def trace(network: "nn.Module", frontend: FrontEnd, dynamic: bool = False) -> onnx.ModelProto:
    """Trace the stripped network and check its logits against torch's; `dynamic` leaves the batch open."""
    import torch

    rng = np.random.default_rng(0)
    probes = rng.normal(-8, 4, (PROBES, 1, 1, frontend.bands, frontend.width)).astype(np.float32)  # log power's range
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The newer exporter needs onnxscript and writes opset 18 down to 17 with leftovers; this one's graph is clean.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(probes[0]),),
            Path(folder) / "traced.onnx",
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_axes={name: {0: "batch"} for name in (INPUT, OUTPUT)} if dynamic else None,
            dynamo=False,
        )
        model = tidy(onnx.load(Path(folder) / "traced.onnx"))
    check(model)
    with torch.inference_mode():
        expected = np.stack([network(torch.from_numpy(probe)).numpy() for probe in probes])  # (probes, batch, 2)
    session = open_session(model)
    found = np.stack([session.run([OUTPUT], {INPUT: probe})[0] for probe in probes])
    worst = float(np.abs(found - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    assert worst <= limit, f"ONNX Runtime's logits differ from torch's by {worst:.2g}, {limit:.2g} is allowed"
    return model


def tidy(model: onnx.ModelProto, around: str = "") -> onnx.ModelProto:
    """Return a model with readable names and no redundant nodes; `around` is the prefix of a module that was wrapped
    for tracing."""
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    alias = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    names = {port.name: port.name for port in (*model.graph.input, *model.graph.output)}
    nodes: list[onnx.NodeProto] = []
    used: dict[str, NDArray[Any]] = {}
    for source in model.graph.node:
        if source.op_type == "Identity":
            continue
        node = onnx.NodeProto()
        node.CopyFrom(source)
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


def with_metadata(model: onnx.ModelProto, properties: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy with metadata_props, which ONNX Runtime shows as custom_metadata_map."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    helper.set_model_props(copy, dict(properties))
    return copy


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return all initialisers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def open_session(model: onnx.ModelProto, extra: Iterable[str] = ()) -> "onnxruntime.InferenceSession":
    """Open ONNX Runtime on one core; `extra` names inner tensors that become outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    if extra:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in extra]
        copy.graph.output.extend(infos)
        model = copy
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, windows: Iterable[Floats]) -> Floats:
    """Compute logits (windows, 2) of windows (1, 1, bands, frames)."""
    return np.concatenate(list(map(as_engine(model), windows)))


def as_engine(model: onnx.ModelProto) -> Forward:
    """Wrap the graph in a function: a window (1, 1, bands, frames) -> logits (1, 2)."""
    session = open_session(model)

    def engine(window: Floats) -> Floats:
        return np.asarray(session.run([OUTPUT], {INPUT: window})[0])

    return engine


def score(logits: Floats) -> NDArray[np.float64]:
    """Logits (n, 2) -> scores (n,): bona fide minus spoof, higher is bona fide."""
    wide = logits.astype(np.float64)
    return wide[:, 1] - wide[:, 0]


def _readable(name: str) -> str:
    """/stages/stages.0/stages.0.0/gate/Mul -> stages.0.0.gate.Mul"""
    parts = name.strip("/").split("/")
    return ".".join(a for a, b in zip(parts, [*parts[1:], ""], strict=True) if not b.startswith(f"{a}."))
