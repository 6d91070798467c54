"""The builder: NVIDIA's own parser and builder where they can be installed, mocks of every version everywhere."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export import graph as graphs
from export import model_graph as steps
from export.int8 import quantize
from export.model_graph import ModelGraph, StepSession
from export.strip import DeployedStream, strip
from export.tensorrt.builder import BuildOptions, build_plan, is_strongly_typed
from export.tensorrt.check import check, is_quantised, read_onnx
from export.tensorrt.half import half
from export.tensorrt.layers import read_layers
from runtime.engines.tensorrt import TensorRTEngine
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.export.mock_tensorrt import VERSIONS, MockCuda, MockTensorRT
from tests.export.small import float_graph, logits_of, quantised_graph, windows
from tests.runtime.engines.test_tensorrt_engine import make_card

NEWEST, OLDEST = VERSIONS[-1], VERSIONS[0]


@pytest.fixture(scope="session")
def rtx() -> Any:
    """TensorRT-RTX's bindings: NVIDIA's parser and builder, which need no GPU."""
    return pytest.importorskip(
        "tensorrt_rtx_bindings",
        reason="NVIDIA's parser and builder: pip install tensorrt_rtx_cu12_libs==1.7.1.116 "
        "tensorrt_rtx_cu12_bindings==1.7.1.116",
        exc_type=ImportError,
    )


def with_int32_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """The S8 graph with the first bias as ONNX Runtime's quantiser leaves it: INT32 behind a DequantizeLinear."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    layer = next(node for node in changed.graph.node if node.op_type == "Conv" and len(node.input) > 2)
    bias = constants[layer.input[2]]
    channels = bias.dims[0]
    bias.CopyFrom(numpy_helper.from_array(np.zeros(channels, np.int32), bias.name))
    scale = numpy_helper.from_array(np.full(channels, 1e-3, np.float32), "bias.scale")
    zero = numpy_helper.from_array(np.zeros(channels, np.int32), "bias.zero")
    changed.graph.initializer.extend([scale, zero])
    names = [bias.name, scale.name, zero.name]
    node = onnx.helper.make_node("DequantizeLinear", names, ["bias.DQ"], "bias.DQ", axis=0)
    layer.input[2] = "bias.DQ"
    changed.graph.node.insert(0, node)
    return changed


# ---- NVIDIA's own parser and builder


@pytest.mark.parametrize("name", ["senet9", "ecanet9", "ecanet18", "senet50"])
def test_nvidia_builds_our_int8_networks(rtx: Any, name: str) -> None:
    assert len(build_plan(rtx, quantised_graph(name, width=1.0), BuildOptions("int8", 256))) > 1_000_000


@pytest.mark.parametrize("name, loss", [("ecamobile", "ocsoftmax"), ("res2net50", "asoftmax"), ("mpif50", "amsoftmax")])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_nvidia_builds_what_these_networks_and_losses_add(rtx: Any, name: str, loss: str, precision: Any) -> None:
    """Depthwise convolutions, Concat, AveragePool, means over one axis, the division by an embedding's length."""
    make = quantised_graph if precision == "int8" else float_graph
    model = make(name, width=0.125, loss=loss)  # type: ignore[operator]
    check(model, "model.onnx", "8.5.2")
    assert build_plan(rtx, model, BuildOptions(precision, 256))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_nvidia_builds_float_networks_of_any_batch(rtx: Any, precision: Any) -> None:
    model = float_graph("ecanet9", level="window-mean", dynamic=True)
    assert build_plan(rtx, model, BuildOptions(precision, 256))


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is here: scripts.tensorrt_report runs engines on it")
def test_nvidias_runtime_opens_no_plan_without_a_gpu_and_our_engine_gives_its_reason(rtx: Any) -> None:
    plan = build_plan(rtx, float_graph("ecanet9", width=0.125), BuildOptions("fp32", 256))
    reasons = []
    for data in (plan, b"no plan at all"):
        driver = MockCuda()
        with pytest.raises(ShrikeError) as error:
            TensorRTEngine(data, make_card(), rtx, driver)
        reasons.append(str(error.value))
    assert len(set(reasons)) == 2 and "cuda" in reasons[0].lower()


def nvidia_refuses(rtx: Any, model: onnx.ModelProto) -> bool:
    try:
        build_plan(rtx, model, BuildOptions("int8", 256))
    except ShrikeError as error:
        assert "node" in str(error)
        return True
    return False


def test_a_u8_file_is_refused_by_us_first_and_by_nvidia_too(rtx: Any) -> None:
    model = quantised_graph("ecanet9", "uint8")
    with pytest.raises(ShrikeError):
        check(model, "model.onnx")
    assert nvidia_refuses(rtx, model)


def test_an_int32_bias_is_refused_by_us_first_and_by_nvidia_too(rtx: Any) -> None:
    model = with_int32_bias(quantised_graph("ecanet9"))
    with pytest.raises(ShrikeError):
        check(model, "model.onnx")
    assert nvidia_refuses(rtx, model)


# ---- every version, as a mock that has its names and no others


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_one_code_path_for_every_version(version: str, precision: Any) -> None:
    trt = MockTensorRT(version)
    model = quantised_graph("ecanet9") if precision == "int8" else float_graph("ecanet9")
    assert build_plan(trt, model, BuildOptions(precision, 300)) == b"MOCK plan"
    calls = trt.calls
    assert calls["WORKSPACE"] == 300 << 20
    assert calls["profiles"] == [("features", *[(1, 1, 45, 600)] * 3)]  # the mock's network has an open batch
    assert bin(calls["tactics"]).count("1") == 2
    assert calls["cleared"] == ({"TF32"} if precision == "fp32" else set())
    given = onnx.load_from_string(calls["graph"])
    kinds = {tensor.data_type for tensor in given.graph.initializer}
    if version == NEWEST:  # no flags: half stands in the graph
        assert is_strongly_typed(trt) and calls["network flags"] == 0 and calls["flags"] == set()
        assert (TensorProto.FLOAT16 in kinds) == (precision != "fp32")
        assert (TensorProto.FLOAT in kinds) == (precision == "fp32")
    else:
        flags = {"int8": {"INT8", "FP16"}, "fp16": {"FP16"}, "fp32": set()}
        assert calls["flags"] == flags[precision] and TensorProto.FLOAT16 not in kinds
        explicit = trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
        assert calls["network flags"] == 1 << explicit
        assert given.opset_import[0].version == 17


@pytest.mark.parametrize(
    ("broken", "logged"),
    [
        ("gpu", "MOCK CUDA initialization failure at mock.cpp:1"),
        ("parse", "node 7: MOCK unsupported data type"),
        ("build", "MOCK [graph.cpp::build::1] Error Code 2: OutOfMemory at mock.cpp:1"),
    ],
)
def test_tensorrts_own_errors_become_one_line(broken: str, logged: str) -> None:
    with pytest.raises(ShrikeError) as caught:
        build_plan(MockTensorRT(OLDEST, broken), quantised_graph("ecanet9"), BuildOptions("int8", 256))
    assert logged in str(caught.value) and "\n" not in str(caught.value)


def test_a_timing_cache_of_another_gpu_is_reported(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "timing.cache").write_bytes(b"of an RTX card")
    recipe = BuildOptions("int8", 256, tmp_path / "timing.cache")
    assert build_plan(MockTensorRT(OLDEST, "cache"), quantised_graph("ecanet9"), recipe)
    assert str(tmp_path / "timing.cache") in capsys.readouterr().err.replace("\n", "")
    assert (tmp_path / "timing.cache").read_bytes() == b""  # what the mock measured


def test_the_timing_cache_is_read_and_written(tmp_path: Path, capsys: Any) -> None:
    recipe = BuildOptions("int8", 256, tmp_path / "deep" / "timing.cache")
    for _ in range(2):
        build_plan(MockTensorRT(OLDEST), quantised_graph("ecanet9"), recipe)
        assert (tmp_path / "deep" / "timing.cache").is_file() and not capsys.readouterr().err


def test_precision_and_graph_must_agree() -> None:
    for model, precision in ((quantised_graph("ecanet9"), "fp16"), (float_graph("ecanet9"), "int8")):
        with pytest.raises(ShrikeError, match=f"--precision {precision}"):
            build_plan(MockTensorRT(OLDEST), model, BuildOptions(precision, 256))  # type: ignore[arg-type]


# ---- half in the graph


@pytest.mark.parametrize("level", ["none", "window-mean"])
@pytest.mark.parametrize("name, loss", [("ecanet9", "asoftmax"), ("senet9", "asoftmax"), ("ecamobile", "ocsoftmax")])
def test_half_gives_nearly_the_same_scores(name: str, loss: str, level: str) -> None:
    probes = list(windows(8, seed=1))
    model, quantised = (make(name, level=level, loss=loss) for make in (float_graph, quantised_graph))
    wide, narrow, rounded, both = (logits_of(m, probes) for m in (model, half(model), quantised, half(quantised)))
    assert np.abs(wide - narrow).max() < 0.02 * np.abs(wide).max()
    # A scale in half precision is off by up to 1/4096: some values fall to the next integer. INT8 itself costs more.
    assert np.square(rounded - both).mean() < 0.5 * np.square(wide - rounded).mean()


def test_half_leaves_nothing_in_float_but_the_level() -> None:
    model = half(quantised_graph("ecanet9", level="window-mean"))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.FLOAT not in kinds.values() and TensorProto.INT8 in kinds.values()
    assert model.opset_import[0].version == 19
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    first = [node.op_type for node in model.graph.node].index("Cast")
    assert len(casts) == 2 and [node.op_type for node in model.graph.node[:first]] == ["GlobalAveragePool", "Sub"]
    for port, kind in ((model.graph.input[0], TensorProto.FLOAT), (model.graph.output[0], TensorProto.FLOAT)):
        assert port.type.tensor_type.elem_type == kind


def test_half_does_not_touch_what_it_was_given() -> None:
    model = quantised_graph("ecanet9")
    before = model.SerializeToString()
    half(model)
    assert model.SerializeToString() == before


def test_half_keeps_scales_above_zero_and_refuses_what_it_cannot_hold() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(quantised_graph("ecanet9"))
    scale = next(tensor for tensor in model.graph.initializer if list(tensor.dims) in ([], [1]))
    scale.CopyFrom(numpy_helper.from_array(np.float32(1e-8), scale.name))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in half(model).graph.initializer}
    assert stored[scale.name] > 0
    model.CopyFrom(float_graph("ecanet9"))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("bias"))
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims, 1e6, np.float32), bias.name))
    with pytest.raises(ShrikeError):
        half(model)


# ---- what the parser would refuse


def spoiled(change: str) -> onnx.ModelProto:
    """The S8 graph with one thing that TensorRT does not take."""
    model = onnx.ModelProto()
    model.CopyFrom(quantised_graph("ecanet9"))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    if change == "scale":
        constants[first.input[1]].CopyFrom(numpy_helper.from_array(np.float32(0), first.input[1]))
    if change == "zero":
        constants[first.input[2]].CopyFrom(numpy_helper.from_array(np.int8(3), first.input[2]))
    if change == "absent":
        del first.input[2]
    if change == "axis":
        weight = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.attribute)
        weight.attribute[0].i = 1
    if change == "domain":
        model.opset_import.add(domain="com.microsoft", version=1)
    if change == "opset":
        model.opset_import[0].version = 19
    return model


@pytest.mark.parametrize(
    ("change", "version", "named"),
    [
        ("scale", None, "QuantizeLinear"),
        ("zero", None, "QuantizeLinear"),
        ("absent", None, "QuantizeLinear"),
        ("axis", None, "axis 1"),
        ("domain", None, "com.microsoft"),
        ("opset", "8.5.2.2", "opset 19"),
    ],
)
def test_graphs_that_the_parser_would_refuse_are_refused(change: str, version: str | None, named: str) -> None:
    with pytest.raises(ShrikeError) as caught:
        check(spoiled(change), "model.onnx", version)
    message = str(caught.value)
    assert named in message and "--target tensorrt" in message


def test_what_we_export_is_for_every_tensorrt() -> None:
    for version in VERSIONS:
        for model in (quantised_graph("senet9"), float_graph("senet9")):
            check(model, "model.onnx", version)
    check(spoiled("opset"), "model.onnx", "10.3.0")
    with pytest.raises(ShrikeError):
        check(half(quantised_graph("ecanet9")), "model.onnx", "8.5.2")


def test_files_that_are_not_onnx_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a graph at all, but a sentence")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text", "empty", "none"):
        with pytest.raises(ShrikeError):
            read_onnx(tmp_path / f"{name}.onnx")
    elsewhere = onnx.ModelProto()
    elsewhere.CopyFrom(float_graph("ecanet9"))
    elsewhere.graph.initializer[0].data_location = TensorProto.EXTERNAL
    elsewhere.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "elsewhere.onnx").write_bytes(elsewhere.SerializeToString())
    with pytest.raises(ShrikeError):
        read_onnx(tmp_path / "elsewhere.onnx")
    whole = quantised_graph("ecanet9").SerializeToString()
    for cut in range(1, len(whole), len(whole) // 40):
        (tmp_path / "cut.onnx").write_bytes(whole[:cut])
        with pytest.raises(ShrikeError):
            read_onnx(tmp_path / "cut.onnx")
    assert is_quantised(quantised_graph("ecanet9")) and not is_quantised(float_graph("ecanet9"))


# ---- the engine inspector


def layer(name: str, kind: str, reads: str, weights: str | None = None) -> str:
    held = f', "Weights": {{"Type": "{weights}", "Count": 9}}' if weights else ""
    return f'{{"Name": "{name}", "LayerType": "{kind}", "Inputs": [{{"Format/Datatype": "{reads}"}}]{held}}}'


def test_layers_that_did_not_become_int8_are_named() -> None:
    found = read_layers(
        '{"Layers": ['
        + ", ".join(
            [
                layer("a", "CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format.", "Int8"),
                layer("b", "CaskConvolution", "Row major linear FP16 format", "Half"),
                layer("c", "gemm", "Int8"),
                layer("d", "CaskConvolution", "N/A due to dynamic shapes", "Int8"),
                layer("e", "Convolution", "Row major Int8 format", "Float"),
                layer("Reformatting CopyNode", "Reformat", "Row major linear FP32"),
                layer("{ForeignNode[x...y]}", "Myelin", "Float"),
            ]
        )
        + '], "Bindings": ["features", "logits"]}'
    )
    assert (found.integer, found.floating, found.opaque, found.other) == (
        ("a", "c", "d"),
        ("b", "e"),
        ("{ForeignNode[x...y]}",),
        1,
    )
    assert "not INT8  b" in found.report() and found.report()[-1].startswith("3 of 5 weighted layers in INT8")


@pytest.mark.parametrize("text", ["", "[]", '{"Bindings": []}', '{"Layers": ["a name"]}', '{"Layers": null}'])
def test_an_inspector_that_says_little(text: str) -> None:
    with pytest.raises(ShrikeError):
        read_layers(text)


# ---- streaming networks


@lru_cache
def step_of(name: str) -> tuple[ModelGraph, ModelGraph]:
    """A step's graph as TensorRT takes it, in float and in S8; ranges from random steps."""
    checkpoint = make_checkpoint(name, level="running-mean", streaming=True)
    network = strip(checkpoint)
    assert isinstance(network, DeployedStream)
    step = steps.trace(network, checkpoint.settings.frontend, layout="channels first")
    layers = quantize.plan(step.graph)
    names = tuple(name for name in quantize.tensors(layers) if name != graphs.INPUT)
    stream, ranges = StepSession(step, extra=names), dict.fromkeys(quantize.tensors(layers), 30.0)
    for piece in steps.split_steps(next(windows(1)), step.frames):
        for inner, values in zip(names, stream(piece)[1], strict=True):
            ranges[inner] = float(np.abs(values).max())
    return step, step.with_graph(quantize.quantise(step.graph, layers, ranges, "int8"))


@pytest.mark.parametrize("name", ["senet9", "ecanet9", "ecamobile", "ecanet9/2/2"])
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_nvidia_builds_steps_for_any_number_of_streams(rtx: Any, name: str, precision: Any) -> None:
    model = step_of(name)[precision == "int8"].graph
    for version in ("8.5.2", "8.6.2", "10.3.0"):
        check(model, "model.onnx", version)
    assert build_plan(rtx, model, BuildOptions(precision, 256, streams=64))


@pytest.mark.parametrize("name", ["senet9", "ecamobile"])
def test_averages_stay_in_float32_where_types_stand_in_the_graph(name: str) -> None:
    """And the rest becomes half, and gives the same logits within half's precision."""
    step = step_of(name)[0]
    narrow = half(step.graph)
    infos = onnx.shape_inference.infer_shapes(narrow).graph.value_info
    kinds = {info.name: info.type.tensor_type.elem_type for info in infos}
    made_by = {output: node for node in narrow.graph.node for output in node.output}
    cast = {tensor.input for tensor in step.state.tensors if made_by[tensor.output].op_type == "Cast"}
    convolutions = {tensor.input for tensor in step.state.tensors if tensor.input.split(".")[-2].isdigit()}
    assert cast == convolutions and len(cast) >= 8
    products = [node.output[0] for node in narrow.graph.node if node.op_type == "MatMul"]
    assert {kinds[name] for name in products if name.endswith("gate.pool.MatMul")} == {TensorProto.FLOAT}
    assert {kinds[name] for name in products if "weigh" in name} == {TensorProto.FLOAT16}
    clip = next(windows(1))
    wide, rounded = steps.run(step, clip), steps.run(replace(step, graph=narrow), clip)
    assert np.abs(rounded - wide).max() < 0.02 * np.abs(wide).max()
