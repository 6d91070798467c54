"""Scales without ties: every layer divides its sums by an odd number, and nothing is clipped for it."""

import numpy as np
import onnx
import pytest

from export import graph
from export.int8.calibration import find_ranges
from export.int8.quantize import Layer, plan, tensors
from export.int8.scales import LARGEST, Ranges, activation_scale, weight_scales, without_ties
from export.model_graph import trace
from export.strip import strip
from tests.export.conftest import Window, make_checkpoint
from tests.export.small import windowed


@pytest.fixture(scope="module", params=["ecanet9", "ecanet18", "senet50"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    checkpoint = make_checkpoint(request.param)
    return trace(strip(checkpoint), checkpoint.settings.frontend).graph


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto, speech: list[Window]) -> Ranges:
    return find_ranges(windowed(model), tensors(plan(model)), speech[:4], "min-max")


def rounded_as(model: onnx.ModelProto, layer: Layer, names: list[str]) -> str | None:
    """The tensor as which a layer's result is rounded."""
    (output,) = next(node.output for node in model.graph.node if node.name == layer.name)
    follows = [node.output[0] for node in model.graph.node if node.op_type == "Relu" and node.input[0] == output]
    return next((name for name in (output, *follows) if name in names), None)


def test_every_layer_divides_by_an_odd_number(model: onnx.ModelProto, ranges: Ranges) -> None:
    layers = plan(model)
    scales = {name: np.float64(scale) for name, scale in without_ties(model, layers, ranges).items()}
    checked = 0
    for layer in layers:
        output = rounded_as(model, layer, tensors(layers))
        if output is None or layer.operation == "GlobalAveragePool":
            continue
        inputs = [scales[name] for name in layer.tensors]
        if layer.operation == "Add":
            # Sums of i main + j skip over n: the smallest j that makes all three whole.
            parts = np.arange(1, 4097) / inputs[1]
            whole = [np.abs(scale * parts - np.rint(scale * parts)) < 2e-4 for scale in (inputs[0], scales[output])]
            n = scales[output] * parts[whole[0] & whole[1]][:1]
        else:
            other = scales[layer.weight] if layer.weight else inputs[1]
            n = np.atleast_1d(scales[output] / (inputs[0] * other))
        n = n[n < LARGEST]
        assert np.abs(n - np.rint(n)).max() < 1e-5 * n.max() and (np.rint(n) % 2 == 1).all(), layer.name
        checked += 1
    assert checked >= 0.7 * len(layers)


def test_scales_only_grow_and_little(model: onnx.ModelProto, ranges: Ranges) -> None:
    layers = plan(model)
    weights = graph.weights_of(model)
    scales = without_ties(model, layers, ranges)
    assert set(scales) == {*tensors(layers), *(layer.weight for layer in layers if layer.weight)}
    growth = {
        name: scale / (weight_scales(weights[name]) if name in weights else activation_scale(ranges[name]))
        for name, scale in scales.items()
    }
    assert min(values.min() for values in growth.values()) > 1 - 1e-6
    assert max(values.max() for name, values in growth.items() if name not in weights) < 1.06
    assert np.median(np.concatenate([values.ravel() for values in growth.values()])) < 1.01


def test_a_layer_that_is_alone_keeps_the_scales_of_its_ranges(model: onnx.ModelProto, ranges: Ranges) -> None:
    layer = next(
        layer for layer in plan(model) if layer.weight and rounded_as(model, layer, list(layer.tensors)) is None
    )
    scales = without_ties(model, [layer], ranges)
    assert layer.weight is not None
    assert np.array_equal(scales[layer.weight], weight_scales(graph.weights_of(model)[layer.weight]))
    assert scales[layer.tensors[0]] == activation_scale(ranges[layer.tensors[0]])


def test_dead_tensors_and_extreme_ranges_stay_finite(model: onnx.ModelProto) -> None:
    layers = plan(model)
    for value in (0.0, 1e-30, 1e30):
        scales = without_ties(model, layers, dict.fromkeys(tensors(layers), value))
        assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales.values())
    mixed = {name: 10.0 ** (20 * (place % 3) - 20) for place, name in enumerate(tensors(layers))}
    assert all((scale > 0).all() for scale in without_ties(model, layers, mixed).values())
