"""Four heads and their losses: what their papers define, by hand, and that each of them can be learned from."""

import math

import pytest
import torch
from torch.nn import functional

from train.losses.softmax import LOSSES, AngularSoftmax, psi
from train.networks.heads import AngleLinear, Head

COSINES = ("amsoftmax", "ocsoftmax")


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


def test_margin_gradient_is_finite_at_the_poles() -> None:
    head = AngleLinear(4)
    along = torch.nn.functional.normalize(head.weight.detach(), dim=1)
    x = torch.stack([along[0], -along[0], 1e-12 * along[1], torch.zeros(4)]).requires_grad_()
    AngularSoftmax()(x, head(x), torch.tensor([0, 0, 1, 1]), 5000).backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(head.weight.grad).all()


def head(loss: str, weight: list[list[float]]) -> Head:
    made = LOSSES[loss].head(len(weight[0]))
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))  # type: ignore[operator]
    return made


def test_am_softmax_by_hand() -> None:
    made = head("amsoftmax", [[1.0, 0.0], [0.0, 2.0]])
    x, target = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([1, 0])
    logits = made(x)  # 20 times cosines of 0.6, 0.8 and 0, 1
    assert torch.allclose(logits, torch.tensor([[12.0, 16.0], [0.0, 20.0]]), atol=1e-4)
    # The targets' logits fall by 20 * 0.9: 12 against -2, and -18 against 20.
    expected = (math.log1p(math.exp(12 - -2)) + math.log1p(math.exp(20 - -18))) / 2
    assert LOSSES["amsoftmax"]()(x, logits, target, 0).item() == pytest.approx(expected, abs=1e-4)


def test_oc_softmax_by_hand() -> None:
    made = head("ocsoftmax", [[2.0, 0.0]])
    x, target = torch.tensor([[3.0, 4.0], [5.0, 0.0]]), torch.tensor([1, 0])
    logits = made(x)  # cosines 0.6 and 1 with the one vector
    assert torch.allclose(logits[:, 1] - logits[:, 0], torch.tensor([1.0, 9.0]), atol=1e-4)
    # Zhang et al., equation 4, alpha = 20: bona fide is asked for 0.9, spoof for 0.2.
    expected = (math.log1p(math.exp(20 * (0.9 - 0.6))) + math.log1p(math.exp(20 * (1.0 - 0.2)))) / 2
    assert LOSSES["ocsoftmax"]()(x, logits, target, 0).item() == pytest.approx(expected, abs=1e-4)


def test_cross_entropy_by_hand() -> None:
    made = head("crossentropy", [[1.0, 0.0], [0.0, 2.0]])
    with torch.no_grad():
        made.bias.copy_(torch.tensor([0.5, -1.0]))  # type: ignore[operator]
    x = torch.tensor([[3.0, 4.0]])
    assert torch.equal(made(x), torch.tensor([[3.5, 7.0]]))
    loss = LOSSES["crossentropy"]()(x, made(x), torch.tensor([0]), 0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(3.5)), abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_its_margin_every_loss_is_cross_entropy_of_its_logits(loss: str) -> None:
    made, x, target = LOSSES[loss].head(8), torch.randn(64, 8), torch.randint(2, (64,))
    plain = LOSSES[loss](margin=False)(x, made(x), target, 10**6)
    assert torch.equal(plain, functional.cross_entropy(made(x), target))
    harder = LOSSES[loss](margin=True)(x, made(x), target, 10**6)
    assert torch.equal(harder, plain) if loss == "crossentropy" else harder > plain


@pytest.mark.parametrize("loss", COSINES)
def test_only_the_direction_counts_on_cosines(loss: str) -> None:
    made, x = LOSSES[loss].head(8), torch.randn(5, 8)
    before = made(x)
    made.weight.data *= 7  # type: ignore[operator]
    assert torch.allclose(made(30 * x), before, atol=1e-4)
    assert made(torch.randn(1000, 8)).abs().max() <= 20.0


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_at_the_extremes(loss: str) -> None:
    made = LOSSES[loss].head(4)
    along = functional.normalize(made.weight.detach(), dim=1)[0]  # type: ignore[operator]
    rows = [along, -along, 1e-12 * along, torch.zeros(4), 1e6 * along, -1e6 * along]
    for label in (0, 1):
        x = torch.stack(rows).requires_grad_()
        value = LOSSES[loss]()(x, made(x), torch.full((len(rows),), label), 5000)
        value.backward()
        assert torch.isfinite(value) and x.grad is not None and torch.isfinite(x.grad).all()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_few_steps_separate_what_can_be_separated(loss: str) -> None:
    torch.manual_seed(0)
    target = torch.arange(64) % 2
    x = torch.randn(64, 8) + 3.0 * (2.0 * target[:, None] - 1.0) * functional.one_hot(torch.tensor(3), 8)
    criterion = LOSSES[loss]()
    made = criterion.head(8)
    optimiser = torch.optim.Adam(made.parameters(), 0.05)
    losses = []
    for step in range(60):
        value = criterion(x, made(x), target, step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < 0.7 * losses[0]
    score = made(x).diff(dim=1)[:, 0]
    assert score[target == 1].mean() > score[target == 0].mean() + 1.0  # higher is bona fide
    threshold = (score[target == 1].mean() + score[target == 0].mean()) / 2
    assert ((score > threshold) == (target == 1)).float().mean() > 0.95


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixed_label_weighs_the_losses_of_both_classes(name: str) -> None:
    loss = LOSSES[name]()
    x, head, target = torch.randn(64, 8), loss.head(8), torch.randint(2, (64,))
    assert torch.allclose(loss(x, head(x), target.float(), 5000), loss(x, head(x), target, 5000))
    spoof, bonafide = (loss(x, head(x), torch.full_like(target, side), 5000) for side in (0, 1))
    mixed = loss(x, head(x), torch.full((64,), 0.3), 5000)
    assert torch.allclose(mixed, 0.7 * spoof + 0.3 * bonafide)
