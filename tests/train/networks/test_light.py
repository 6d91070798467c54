"""The light network: light it is, and its units are what they are called."""

import pytest
import torch
from torch import nn

from train.networks import build
from train.networks.blocks import SYMMETRIC
from train.networks.cost import multiply_adds, stage_shapes
from train.networks.light import EXPANSION, InvertedUnit, ecamobile


@pytest.mark.parametrize("bands", [45, 60])
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_it_costs_a_fifth_of_ecanet9_at_most(bands: int, width: float) -> None:
    light, ecanet = build("ecamobile", width), build("ecanet9", width)
    assert 5 * multiply_adds(light, bands, 600) <= multiply_adds(ecanet, bands, 600)
    assert 4 * sum(p.numel() for p in light.parameters()) <= sum(p.numel() for p in ecanet.parameters())


def test_shapes() -> None:
    shapes = [(16, 45, 300), (16, 45, 300), (32, 23, 150), (64, 12, 75), (128, 6, 38)]
    assert stage_shapes(ecamobile(), 45, 600) == shapes


def test_multiply_adds_of_a_depthwise_convolution_are_counted_once_a_channel() -> None:
    sizes = [45 * 300, 45 * 300, 23 * 150, 12 * 75, 6 * 38]  # of what leaves the stem and each stage
    units = [(16, 16, 0, 1), (16, 16, 1, 1), (16, 32, 1, 2), (32, 32, 2, 2), (32, 64, 2, 3), *[(64, 64, 3, 3)] * 2]
    units += [(64, 128, 3, 4), (128, 128, 4, 4)]
    total = sizes[0] * 16 * 9
    for inputs, outputs, before, after in units:
        wide = EXPANSION * inputs
        total += sizes[before] * inputs * wide + sizes[after] * (9 * wide + wide * outputs)
    counted = multiply_adds(ecamobile(), 45, 600)
    assert 0 <= counted - total < 5000  # the rest: ECA's kernels and the head


def test_a_unit_passes_its_input_on_where_the_shape_stays_and_only_there() -> None:
    x = torch.randn(2, 8, 9, 10)
    for outputs, stride, shape in ((8, 1, (2, 8, 9, 10)), (16, 1, (2, 16, 9, 10)), (8, 2, (2, 8, 5, 5))):
        unit = InvertedUnit(8, outputs, stride, SYMMETRIC, lambda channels, time: nn.Identity()).eval()
        nn.init.zeros_(unit.body[-1].weight)  # type: ignore[arg-type]
        out = unit(x)
        assert out.shape == shape and torch.equal(out, x.relu() if stride == 1 and outputs == 8 else torch.zeros(shape))
    depthwise = InvertedUnit(8, 8, 1, SYMMETRIC, lambda channels, time: nn.Identity()).body[3]
    assert isinstance(depthwise, nn.Conv2d) and depthwise.groups == depthwise.in_channels == EXPANSION * 8
