"""The eight networks: the paper's table, their names, and their two gates."""

import pytest
import torch

from runtime.errors import ShrikeError
from train.networks import NAMES, build
from train.networks.blocks import EfficientChannelAttention, SqueezeExcitation
from train.networks.heads import AngleLinear, AngularSoftmax, psi
from train.networks.senet import multiply_adds, stage_shapes

PAPER = [(16, 45, 600), (32, 45, 600), (64, 23, 300), (128, 12, 150), (256, 6, 75)]  # stem and four blocks
CONVOLUTIONS = {9: 8, 18: 16, 34: 32, 50: 48}  # inside the residual units


@pytest.mark.parametrize("name", NAMES)
def test_shapes_after_each_block_are_the_papers(name: str) -> None:
    network = build(name)
    assert stage_shapes(network, 45, 600) == PAPER
    layers = int(name.removeprefix("ecanet").removeprefix("senet"))
    bodies = [
        module for key, module in network.named_modules() if ".body." in key and isinstance(module, torch.nn.Conv2d)
    ]
    assert len(bodies) == CONVOLUTIONS[layers]


def test_all_eight_are_there_and_an_unknown_name_lists_them() -> None:
    assert sorted(NAMES) == sorted(f"{kind}net{depth}" for kind in ("eca", "se") for depth in (9, 18, 34, 50))
    with pytest.raises(ShrikeError, match=r"'resnet7'.*ecanet9.*senet50"):
        build("resnet7")


def test_multiply_adds_of_one_convolution_are_counted_once() -> None:
    network = build("ecanet9")
    stem = 45 * 600 * 16
    stage1 = 45 * 600 * (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32)
    stage2 = 23 * 300 * (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64)
    stage3 = 12 * 150 * (64 * 128 * 9 + 128 * 128 * 9 + 64 * 128)
    stage4 = 6 * 75 * (128 * 256 * 9 + 256 * 256 * 9 + 128 * 256)
    total = multiply_adds(network, 45, 600)
    assert 0 <= total - (stem + stage1 + stage2 + stage3 + stage4) < 5000  # the rest: ECA's kernels and the head


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


def test_angle_linear_is_length_times_cosine() -> None:
    head, x = AngleLinear(8), torch.randn(5, 8)
    cosine = torch.nn.functional.cosine_similarity(x[:, None], head.weight[None], dim=2)
    assert torch.allclose(head(x), x.norm(dim=1, keepdim=True) * cosine, atol=1e-5)
    assert torch.allclose(head(3 * x), 3 * head(x), atol=1e-5)
    head.weight.data *= 7  # only the direction counts
    assert torch.allclose(head(x), x.norm(dim=1, keepdim=True) * cosine, atol=1e-5)


def test_psi_is_cos_of_four_angles_made_monotone() -> None:
    angle = torch.linspace(0.001, torch.pi - 0.001, 999)
    value = psi(torch.cos(angle))
    assert (value.diff() < 0).all()
    assert torch.allclose(
        psi(torch.cos(torch.tensor([0.0, torch.pi / 4, torch.pi / 2]))), torch.tensor([1.0, -1.0, -3.0]), atol=1e-3
    )
    inside = angle < torch.pi / 4
    assert torch.allclose(value[inside], torch.cos(4 * angle[inside]), atol=1e-4)


def test_margin_only_ever_makes_the_target_harder_and_fades_in() -> None:
    x, target, head = torch.randn(64, 8), torch.randint(2, (64,)), AngleLinear(8)
    plain = AngularSoftmax(margin=False)(x, head(x), target, 0)
    assert torch.allclose(plain, torch.nn.functional.cross_entropy(head(x), target))
    losses = [AngularSoftmax(margin=True)(x, head(x), target, step) for step in (0, 100, 10_000, 10**9)]
    assert plain < losses[0] < losses[1] < losses[2]
    assert losses[2] == losses[3]  # lambda has reached its floor
    loss = AngularSoftmax()
    assert (loss.weight(0), loss.weight(10), loss.weight(10**6)) == (1500.0, 750.0, 5.0)


def test_a_mixed_label_weighs_the_losses_of_both_classes() -> None:
    x, head, loss = torch.randn(64, 8), AngleLinear(8), AngularSoftmax()
    target = torch.randint(2, (64,))
    assert torch.allclose(loss(x, head(x), target.float(), 5000), loss(x, head(x), target, 5000))
    spoof, bonafide = (loss(x, head(x), torch.full_like(target, side), 5000) for side in (0, 1))
    mixed = loss(x, head(x), torch.full((64,), 0.3), 5000)
    assert torch.allclose(mixed, 0.7 * spoof + 0.3 * bonafide)


def test_margin_gradient_is_finite_at_the_poles() -> None:
    head = AngleLinear(4)
    along = torch.nn.functional.normalize(head.weight.detach(), dim=1)
    x = torch.stack([along[0], -along[0], 1e-12 * along[1], torch.zeros(4)]).requires_grad_()
    AngularSoftmax()(x, head(x), torch.tensor([0, 0, 1, 1]), 5000).backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(head.weight.grad).all()
