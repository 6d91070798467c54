"""Res2Net: the published sizes, who sees what inside a unit, and the fused gate."""

import pytest
import torch
from torch import Tensor, nn

from train.networks import build
from train.networks.blocks import SYMMETRIC, SqueezeExcitation
from train.networks.cost import stage_shapes
from train.networks.res2net import SCALE, PerspectiveFusion, Res2Unit, no_gate

SHAPES = [(16, 45, 600), (32, 45, 600), (64, 23, 300), (128, 12, 150), (256, 6, 75)]  # Li et al. 2021: 32 to 256


@pytest.mark.parametrize("name", ["res2net50", "seres2net50", "mpif50"])
def test_stages_are_those_of_the_50_layer_networks(name: str) -> None:
    network = build(name)
    assert stage_shapes(network, 45, 600) == SHAPES
    assert [len(stage) for stage in network.stages] == [3, 4, 6, 3]  # type: ignore[arg-type]
    spatial = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    assert len(spatial) == 16 * (SCALE - 1)


@pytest.mark.parametrize("width", [0.03, 0.125, 0.3, 1.5])
def test_any_width_gives_whole_groups(width: int) -> None:
    assert all(channels % SCALE == 0 and channels >= SCALE for channels in build("res2net50", width).widths)


def seen(stride: int) -> tuple[Tensor, Tensor]:
    """Gradients (groups out, groups in) and (bands, frames) of group 4's middle, of a unit's inner part alone."""
    torch.manual_seed(0)
    unit = Res2Unit(SCALE, SCALE, stride, SYMMETRIC, no_gate).eval()
    for module in unit.convolutions:
        for weight in module.parameters():
            nn.init.constant_(weight, 0.5)  # nothing is cut by a ReLU
    unit.groups.body, unit.merge, unit.shortcut = nn.Sequential(), nn.Sequential(), nn.Sequential()
    unit.shortcut.forward = lambda x: 0.0  # type: ignore[method-assign,assignment]
    x = torch.rand(1, SCALE, 9, 9, requires_grad=True)
    out = unit(x)
    rows = []
    for group in range(SCALE):
        (gradient,) = torch.autograd.grad(out[0, group, out.shape[2] // 2, out.shape[3] // 2], x, retain_graph=True)
        rows.append(gradient[0])
    return torch.stack([row.abs().sum(dim=(1, 2)) > 0 for row in rows]), rows[-1][-1]


def test_each_group_sees_what_the_groups_before_it_saw() -> None:
    groups, rest = seen(1)
    assert groups.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert rest.count_nonzero() == 1  # the last one goes through untouched


def test_where_the_stride_is_two_groups_keep_to_themselves_and_the_last_is_averaged() -> None:
    groups, rest = seen(2)
    assert groups.int().tolist() == torch.eye(SCALE).int().tolist()
    assert rest.count_nonzero() == 9 and torch.allclose(rest[rest > 0], torch.tensor(1 / 9))


def test_the_channel_perspective_is_squeeze_and_excitation() -> None:
    gate, plain = PerspectiveFusion(32), SqueezeExcitation(32)
    plain.squeeze.load_state_dict(gate.squeeze.state_dict())
    plain.excite.load_state_dict(gate.channel.state_dict())
    for convolution in (gate.frequency, gate.time):
        nn.init.zeros_(convolution.weight)
        nn.init.constant_(convolution.bias, 50.0)  # type: ignore[arg-type]
    x = torch.randn(2, 32, 6, 7)
    assert torch.allclose(gate(x), plain(x), atol=1e-5)


def test_the_fused_gate_weighs_channels_bands_and_frames_between_zero_and_one() -> None:
    torch.manual_seed(0)
    gate, x = PerspectiveFusion(32).double(), torch.randn(2, 32, 12, 20).double()
    for convolution in (gate.frequency, gate.time):
        nn.init.normal_(convolution.weight)
    share = gate(x) / x
    assert (share > 0).all() and (share < 1).all()
    place = share / share[:, :1]  # one map over bands and frames for all channels
    assert torch.allclose(place, place[:, :, :1, :1].expand_as(place))
    logit = torch.logit(share[:, 0] / share[:, 0].amax() * 0.5)
    assert logit.std(dim=1).min() > 0 and logit.std(dim=2).min() > 0  # it differs over bands, and over frames
