"""INT8: Q/DQ where TensorRT fuses it, the same integers in both files, and layers that stay float by measurement."""

from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export import graph
from export.int8 import sensitivity
from export.int8.calibration import find_ranges
from export.int8.quantize import Kind, Layer, float_by_design, plan, quantise, tensors
from export.int8.scales import Ranges
from export.model_graph import StepSession, trace
from export.strip import strip
from tests.export.conftest import Window, make_checkpoint
from tests.export.small import logits_of, windowed

NETWORKS = ["ecanet9", "senet9"]
WIDTHS = {"res2net50": 0.125, "mpif50": 0.125}  # deep networks are narrow here: the tests take seconds
CLEAN = 12.0  # dB of random networks' scores above the noise of INT8 in every layer
SAME = 1e-3  # between a logit of the S8 and of the U8 file: what is allowed; in fact they are equal


class Case:
    """A network, its plan, and ranges from real windows."""

    def __init__(self, name: str, level: str, windows: list[Window], loss: str = "asoftmax") -> None:
        checkpoint = make_checkpoint(name, WIDTHS.get(name, 0.25), level=level, loss=loss)
        self.name = name
        self.files: dict[Kind, onnx.ModelProto] = {}
        self.model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
        self.layers: list[Layer] = plan(self.model)
        self.ranges: Ranges = find_ranges(windowed(self.model), tensors(self.layers), windows, "min-max")

    def quantised(self, kind: Kind) -> onnx.ModelProto:
        if kind not in self.files:
            self.files[kind] = quantise(self.model, self.layers, self.ranges, kind)
        return self.files[kind]


CASES = [
    *((name, "none", "asoftmax") for name in (*NETWORKS, "res2net50", "mpif50", "ecamobile")),
    ("senet9", "window-mean", "asoftmax"),
    ("ecanet9", "none", "ocsoftmax"),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, speech: list[Window]) -> Case:
    name, level, loss = request.param
    return Case(name, level, speech, loss)


# Additions outside gates: one a unit; two more in a Res2Net's 13 units whose groups hand on; 5 light units add nothing.
ADDITIONS = {"ecanet9": 4, "senet9": 4, "res2net50": 16 + 2 * 13, "mpif50": 16 + 2 * 13, "ecamobile": 9 - 3}


def reads_means(case: Case, name: str) -> bool:
    """True if a convolution's input is as small as a mean makes it."""
    made_by = {output: node for node in case.model.graph.node for output in node.output}
    node = next(node for node in case.model.graph.node if node.name == name)
    while node.op_type in ("Conv", "Relu", "Transpose") and node.input[0] in made_by:
        node = made_by[node.input[0]]
    return node.op_type in ("GlobalAveragePool", "ReduceMean")


def readers(model: onnx.ModelProto) -> dict[str, set[str]]:
    """Tensor -> the operators that read it."""
    found: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, set()).add(node.op_type)
    return found


def operators(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the operator that computes it; "" for inputs and constants."""
    return defaultdict(str, {name: node.op_type for node in model.graph.node for name in node.output})


def test_every_large_convolution_computes_in_int8_and_no_small_one(case: Case) -> None:
    planned = {layer.name for layer in case.layers}
    convolutions = {node.name for node in case.model.graph.node if node.op_type == "Conv"}
    small = {name for name in convolutions if reads_means(case, name)}
    assert convolutions - small == {n for n in planned if n.endswith("Conv")}
    assert all("gate" in name for name in small) and (small or case.name == "res2net50")
    assert set(float_by_design(case.model, case.layers)) == small | {"head.Gemm"}
    units = [n.name for n in case.model.graph.node if n.op_type == "Add" and not n.name.startswith("head")]
    assert {name for name in units if "gate" not in name} <= planned
    assert len([name for name in units if "gate" not in name]) == ADDITIONS[case.name]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_rounding_stands_in_front_of_layers_only(case: Case, kind: Kind) -> None:
    model = case.quantised(kind)
    read_by, producer = readers(model), operators(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert read_by[node.output[0]] <= {"DequantizeLinear", "Clip"}
        if node.op_type == "DequantizeLinear":
            wanted = {"Conv", "GlobalAveragePool", "Mul", "Add", "Concat", "AveragePool", "ReduceMean"}
            assert read_by[node.output[0]] <= wanted
            assert len(node.input) == 3  # TensorRT 8.5 wants the zero point there
        inputs = [producer[name] == "DequantizeLinear" for name in node.input]
        if node.op_type in ("Add", "Mul", "Concat", "AveragePool"):
            among_means = node.name.startswith("head") or (node.op_type == "Add" and "gate" in node.name)
            assert not any(inputs) if among_means else all(inputs)
        if node.op_type in ("Sigmoid", "Gemm", "Relu", "Transpose", "Sub", "Sqrt", "Div"):
            assert not any(inputs)
        if node.op_type in ("GlobalAveragePool", "ReduceMean"):
            of_means = producer[node.input[0]] == "ReduceMean" or node.name.startswith("head")
            assert inputs == [node.input[0] != graph.INPUT and not of_means]


def test_the_s8_file_is_what_tensorrt_reads(case: Case) -> None:
    model = case.quantised("int8")
    weights = graph.weights_of(model)
    assert not [n for n, value in weights.items() if value.dtype not in (np.float32, np.int8)]
    assert all(not value.any() for name, value in weights.items() if value.dtype == np.int8)  # zero points alone
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = weights[node.input[1]]
            assert (scale > 0).all() and weights[node.input[2]].shape == scale.shape
            if scale.ndim:
                assert [a.i for a in node.attribute if a.name == "axis"] == [0]
                assert node.input[0].split(".")[-1] in ("weight", "Q")


def test_the_u8_file_is_what_onnx_runtime_runs_in_integers(case: Case, speech: list[Window]) -> None:
    model = case.quantised("uint8")
    weights, producer = graph.weights_of(model), operators(model)
    made_by = {name: node for node in model.graph.node for name in node.output}
    counted_from_0: list[str] = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            operator, zero = producer[node.input[0]], weights[node.input[2]]
            assert zero.dtype == np.uint8
            assert zero in (0, 128)
            if operator in ("Relu", "Sigmoid", "Concat", "AveragePool"):  # the latter two of ReLUs, in Res2Net
                assert zero == 0
            if zero == 0:
                counted_from_0.append(node.input[0])
        if node.op_type == "Conv" and not reads_means(case, node.name):
            kinds = [weights[made_by[name].input[0]].dtype for name in node.input[1:]]
            assert kinds == [np.int8, np.int32]
    assert all(item.data_type != TensorProto.FLOAT or item.dims != [32, 16, 3, 3] for item in model.graph.initializer)
    values = StepSession(windowed(case.model), extra=tuple(counted_from_0))(speech[0])[1]
    assert min(float(value.min()) for value in values) >= 0.0


def test_no_two_products_overflow_sixteen_bits(case: Case) -> None:
    """AVX2 multiplies U8 by S8 and adds neighbours in 16 bits, cutting what does not fit (vpmaddubsw)."""
    model = case.quantised("uint8")
    weights = graph.weights_of(model)
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[0] in made_by and made_by[node.input[0]].op_type == "DequantizeLinear":
            zero = weights[made_by[node.input[0]].input[2]]
            weight = np.abs(weights[made_by[node.input[1]].input[0]].astype(int))
            pair = np.sort(weight.reshape(len(weight), -1), axis=1)[:, -2:].sum(axis=1)
            assert pair.max() * (127 if zero == 0 else 255) < 2**15, node.name


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_concat_moves_integers_and_changes_none(case: Case, kind: Kind) -> None:
    model = case.quantised(kind)
    scales = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    weights = graph.weights_of(model)
    made_by = {output: node for node in model.graph.node for output in node.output}
    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert len(concats) == (16 if case.name in ("res2net50", "mpif50") else 0)
    for node in concats:
        into = {float(weights[made_by[name].input[1]]) for name in node.input}
        assert into == {float(weights[scales[node.output[0]]])}


def test_both_files_give_the_same_logits_also_beyond_what_calibration_saw(case: Case, speech: list[Window]) -> None:
    windows = [*speech[::4], *(window + 8.0 for window in speech[:2])]  # 35 dB louder: clipped alike
    signed, unsigned = (logits_of(case.quantised(kind), windows) for kind in ("int8", "uint8"))  # type: ignore[arg-type]
    # ONNX Runtime computes the one's convolutions in float, the other's in integers: the same, where nothing is a tie.
    assert np.abs(signed - unsigned).max() <= SAME
    assert np.mean(signed == unsigned) > 0.9


def test_int8_is_near_float(case: Case, speech: list[Window]) -> None:
    """In the product's measure; the largest error depends on the quietest clip, which has the fewest INT8 steps."""
    clean, rounded = (graph.score(logits_of(model, speech)) for model in (case.model, case.quantised("uint8")))
    assert sensitivity.snr(clean, rounded) > CLEAN


def test_nothing_planned_is_the_float_graph(case: Case, speech: list[Window]) -> None:
    same = quantise(case.model, [], case.ranges, "uint8")
    assert np.array_equal(logits_of(same, speech[:2]), logits_of(case.model, speech[:2]))


def test_a_dead_tensor_keeps_a_scale_above_zero(case: Case, speech: list[Window]) -> None:
    dead = quantise(case.model, case.layers, dict.fromkeys(case.ranges, 0.0), "int8")
    assert all((v > 0).all() for n, v in graph.weights_of(dead).items() if n.endswith(".scale"))
    assert np.isfinite(logits_of(dead, speech[:1])).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_u8_file_is_small(name: str) -> None:
    checkpoint = make_checkpoint(name, width=1.0)
    model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
    layers = plan(model)
    small = quantise(model, layers, dict.fromkeys(tensors(layers), 1.0), "uint8")
    assert model.ByteSize() / small.ByteSize() >= 3.5


# ---- which layers stay float -----------------------------------------------------------------------------------------


def test_enough_is_enough(case: Case, speech: list[Window]) -> None:
    settled = sensitivity.choose_layers(windowed(case.model), case.layers, case.ranges, speech[:2], wanted=-99.0)
    assert settled.layers == case.layers and not settled.stays_float and not settled.noise


def test_the_noisiest_stay_float_until_it_is_clean_enough(speech: list[Window]) -> None:
    case = Case("ecanet9", "none", speech)
    bad = "stages.1.0.body.0.Conv"
    (tensor,) = next(layer.tensors for layer in case.layers if layer.name == bad)
    ranges = {**case.ranges, tensor: 200 * case.ranges[tensor]}  # a range that leaves no step for the values
    good = sensitivity.choose_layers(windowed(case.model), case.layers, case.ranges, speech, wanted=0.0).total
    wanted = good - 3.0  # dB
    settled = sensitivity.choose_layers(windowed(case.model), case.layers, ranges, speech, wanted=wanted, report=True)
    assert settled.total >= wanted
    # The shortcut reads the same tensor, and may be as bad.
    assert bad in settled.stays_float and set(settled.stays_float) <= {bad, "stages.1.0.shortcut.0.Conv"}
    assert min(settled.noise, key=lambda name: settled.noise[name]) in settled.stays_float
    sensitivity.show(settled, case.layers, float_by_design(case.model, case.layers))


def test_what_is_asked_to_stay_float_does(case: Case, speech: list[Window]) -> None:
    asked = case.layers[0].name
    settled = sensitivity.choose_layers(
        windowed(case.model), case.layers, case.ranges, speech[:2], -100.0, keep=[asked]
    )
    assert settled.layers == case.layers[1:]
    assert list(settled.stays_float) == [asked]
