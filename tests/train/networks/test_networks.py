"""The networks: the paper's eight against its table, all of them by name, and the two gates."""

import pytest
import torch
from torch import nn

from runtime.support.errors import ShrikeError
from train.losses.softmax import LOSSES
from train.networks import CONVOLUTIONAL, NAMES, SENETS, build
from train.networks.blocks import EfficientChannelAttention, SqueezeExcitation
from train.networks.cost import multiply_adds, stage_shapes

PAPER = [(16, 45, 600), (32, 45, 600), (64, 23, 300), (128, 12, 150), (256, 6, 75)]  # stem and four blocks
CONVOLUTIONS = {9: 8, 18: 16, 34: 32, 50: 48}  # inside the residual units


@pytest.mark.parametrize("name", SENETS)
def test_shapes_after_each_block_are_the_papers(name: str) -> None:
    network = build(name)
    assert stage_shapes(network, 45, 600) == PAPER
    layers = int(name.removeprefix("ecanet").removeprefix("senet"))
    bodies = [
        module for key, module in network.named_modules() if ".body." in key and isinstance(module, torch.nn.Conv2d)
    ]
    assert len(bodies) == CONVOLUTIONS[layers]


def test_all_are_there_and_an_unknown_name_lists_them() -> None:
    eight = {f"{kind}net{depth}" for kind in ("eca", "se") for depth in (9, 18, 34, 50)}
    assert set(NAMES) == eight | {"res2net50", "seres2net50", "mpif50", "ecamobile", "encoder"}
    with pytest.raises(ShrikeError, match="resnet7") as error:
        build("resnet7")
    assert all(name in str(error.value) for name in NAMES)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_network_has_four_stages_for_any_window_width_and_loss(name: str) -> None:
    for loss, width, bands in (("asoftmax", 0.125, 45), ("ocsoftmax", 0.25, 60)):
        network = build(name, width, loss=loss).eval()
        features = torch.randn(2, 1, bands, 64)
        embeddings = network.embeddings(features)
        assert [x.shape for x in embeddings] == [(2, w) for w in network.widths] and len(network.stages) == 4
        assert network(features).shape == (2, 2) and type(network.head) is LOSSES[loss].head
        assert torch.allclose(network.head(embeddings[-1]), network(features))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_nothing_in_a_network_is_beyond_int8(name: str) -> None:
    """Convolutions, their norms, ReLU, sigmoids (in the gates' forward), means: no HardSwish, no LayerNorm."""
    leaves = {type(module) for module in build(name, 0.125).modules() if not list(module.children())}
    simple = {nn.Conv2d, nn.Conv1d, nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Dropout}
    simple |= {nn.AdaptiveAvgPool2d, nn.AvgPool2d}
    assert leaves <= simple | {LOSSES["asoftmax"].head}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", ["ecanet9", "senet9", "ecamobile", "mpif50"])
def test_gradients_have_the_strides_of_their_weights(name: str, layout: torch.memory_format) -> None:
    """DistributedDataParallel copies those that have not, with a warning."""
    network = build(name, 0.5).to(memory_format=layout)  # type: ignore[call-overload]
    network(torch.randn(2, 1, 45, 64).contiguous(memory_format=layout)).sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad.stride() != weight.stride()] == []


def test_multiply_adds_of_one_convolution_are_counted_once() -> None:
    network = build("ecanet9")
    stem = 45 * 600 * 16
    stage1 = 45 * 600 * (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32)
    stage2 = 23 * 300 * (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64)
    stage3 = 12 * 150 * (64 * 128 * 9 + 128 * 128 * 9 + 64 * 128)
    stage4 = 6 * 75 * (128 * 256 * 9 + 256 * 256 * 9 + 128 * 256)
    total = multiply_adds(network, 45, 600)
    assert 0 <= total - (stem + stage1 + stage2 + stage3 + stage4) < 5000  # the rest: ECA's kernels and the head


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (2, 2)])
def test_a_stem_that_strides_shrinks_every_map(name: str, stride: tuple[int, int]) -> None:
    shapes = stage_shapes(build(name, 0.25, stem_stride=stride), 60, 608)
    bands, frames = 60 // stride[0], 608 // (2 if name == "ecamobile" else stride[1])
    for number, shape in enumerate(shapes[1:]):
        assert shape[1:] == (-(-bands // 2**number), -(-frames // 2**number))


def test_a_stem_that_strides_brings_a_step_below_ten_million_multiply_adds() -> None:
    network = build("ecanet9", 0.75, gate_seconds=1.0, stem_stride=(2, 2))
    assert 7e6 < multiply_adds(network, 60, 16, step=True) < 10e6


def test_width_scales_channels_and_any_window_fits() -> None:
    network = build("senet9", width=0.25)
    assert network.widths == (8, 16, 32, 64)
    assert network(torch.zeros(1, 1, 60, 611)).shape == (1, 2)
    assert [x.shape for x in network.embeddings(torch.zeros(3, 1, 45, 600))] == [(3, w) for w in network.widths]


@pytest.mark.parametrize("gate", [SqueezeExcitation(32), EfficientChannelAttention(32)])
def test_a_gate_scales_channels_between_zero_and_one_by_their_means_alone(gate: torch.nn.Module) -> None:
    x = torch.randn(2, 32, 6, 7)
    out = gate(x)
    share = out / x
    assert torch.allclose(share, share[:, :, :1, :1].expand_as(share), atol=1e-4)
    assert (share > 0).all() and (share < 1).all()
    shuffled = x.flatten(2)[:, :, torch.randperm(42)].view_as(x)
    assert torch.allclose(gate(shuffled).flatten(2).sort()[0], out.flatten(2).sort()[0], atol=1e-5)


@pytest.mark.parametrize("channels, kernel", [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5)])
def test_eca_kernel_follows_the_width(channels: int, kernel: int) -> None:
    assert EfficientChannelAttention(channels).mix.kernel_size == (kernel,)
