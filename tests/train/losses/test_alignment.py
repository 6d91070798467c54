"""Comparisons of features: hand-made numbers, and differences that each comparison must ignore."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from train.losses.alignment import ALIGNMENTS, AttentionTransfer, Projection, Relational, SimilarityPreserving
from train.losses.stage_outputs import StageOutput

LOGITS = torch.zeros(2, 2)


def view(pooled: list[list[float]] | Tensor, energy: list[list[list[float]]] | None = None) -> StageOutput:
    return StageOutput(torch.as_tensor(pooled), LOGITS, None if energy is None else torch.tensor(energy))


def test_linear_is_the_squared_distance_to_the_projection() -> None:
    align = Projection(1, 2)
    with torch.no_grad():
        align.weight.copy_(torch.tensor([[1.0], [2.0]]))
        align.bias.zero_()
        loss = align(view([[3.0]]), view([[3.0, 4.0]]))  # (3) -> (3, 6) against (3, 4): (0 + 4) / 2
    assert float(loss) == pytest.approx(2.0)


def test_attention_compares_where_the_energy_lies() -> None:
    align = AttentionTransfer(8, 16)
    # 2 x 4 places average down to 1 x 2: (2, 0), so (1, 0); the teacher's (3, 4) is (0.6, 0.8)
    student = view([[0.0]], [[[1.0, 3.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]]])
    teacher = view([[0.0]], [[[3.0, 4.0]]])
    assert float(align(student, teacher)) == pytest.approx(0.4**2 + 0.8**2)
    louder = view([[0.0]], [[[30.0, 40.0]]])
    assert float(align(student, louder)) == pytest.approx(float(align(student, teacher)))


def test_similarity_compares_which_windows_are_alike() -> None:
    align = SimilarityPreserving(2, 3)
    student = view([[1.0, 0.0], [0.0, 2.0]])  # Gram matrix diag(1, 4): rows (1, 0), (0, 1)
    teacher = view([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])  # all ones: rows of 1 / sqrt 2
    row = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert float(align(student, teacher)) == pytest.approx(row)  # the mean of two equal rows


def test_relational_compares_distances_by_their_mean() -> None:
    align = Relational(1, 1)
    student, teacher = view([[0.0], [1.0], [3.0]]), view([[0.0], [2.0], [4.0]])
    # distances 1, 3, 2 with mean 2 against 2, 4, 2 with mean 8/3; Huber: half the square below 1
    ours, theirs = (0.5, 1.5, 1.0), (0.75, 1.5, 0.75)
    huber = sum((a - b) ** 2 / 2 for a, b in zip(ours, theirs, strict=True)) / 3
    assert float(align(student, teacher)) == pytest.approx(huber)


@pytest.mark.parametrize("name", sorted(ALIGNMENTS))
def test_equal_features_are_no_distance_apart_but_for_the_projection(name: str) -> None:
    torch.manual_seed(0)
    seen = StageOutput(torch.randn(5, 4), LOGITS, torch.rand(5, 3, 6))
    align = ALIGNMENTS[name](4, 4)
    if isinstance(align, Projection):
        torch.nn.init.eye_(align.weight)
        torch.nn.init.zeros_(align.bias)
    assert float(align(seen, seen)) == pytest.approx(0.0, abs=1e-6)
    assert (list(align.parameters()) != []) == (name == "linear")


@pytest.mark.parametrize("name", ["similarity", "relational"])
def test_relations_do_not_see_rotations_nor_scale(name: str) -> None:
    torch.manual_seed(0)
    align, student = ALIGNMENTS[name](4, 4), torch.randn(6, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    assert float(align(view(student), view(7 * student @ rotation))) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", sorted(ALIGNMENTS))
def test_gradients_are_finite_where_everything_is_zero_or_equal(name: str) -> None:
    pooled = torch.zeros(3, 4, requires_grad=True)
    energy = torch.zeros(3, 2, 4, requires_grad=True)
    teacher = StageOutput(torch.ones(3, 4), LOGITS, torch.ones(3, 1, 2))
    ALIGNMENTS[name](4, 4)(StageOutput(pooled, LOGITS, energy), teacher).backward()
    used = energy if name == "attention" else pooled
    assert used.grad is not None and bool(torch.isfinite(used.grad).all())


def test_energy_is_the_mean_square_over_channels_of_every_stage() -> None:
    from train.networks import build

    network = build("senet9", width=0.1).eval()
    features = torch.randn(2, 1, 45, 64)
    pooled, energies = network.stage_outputs(features, energy=True)
    x = network.stem(features)
    for stage, seen, energy in zip(network.stages, pooled, energies, strict=True):
        x = stage(x)
        assert torch.allclose(energy, x.square().mean(dim=1)) and torch.allclose(seen, x.mean(dim=(2, 3)), atol=1e-5)
    alone, none = network.stage_outputs(features)
    assert none == [] and all(torch.equal(a, b) for a, b in zip(alone, pooled, strict=True))
    shapes = [tuple(energy.shape[1:]) for energy in energies]
    assert functional.adaptive_avg_pool2d(energies[0], shapes[-1]).shape == energies[-1].shape
