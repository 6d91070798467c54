"""Self-distillation: the three losses, who teaches whom, and that the helpers come off."""

import math

import pytest
import torch

from train.config import Distillation
from train.losses.distillation import DistillationModel, distance
from train.losses.softmax import LOSSES
from train.networks import build


def distillation_model(**settings: object) -> DistillationModel:
    torch.manual_seed(0)
    network = build("ecanet9", width=0.25, loss=str(settings.get("loss", "asoftmax")))
    return DistillationModel(network, Distillation(**settings))  # type: ignore[arg-type]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 45, 64, generator=generator), torch.tensor([0, 1, 0, 1, 1, 0])


def test_total_is_the_weighted_sum_of_the_parts() -> None:
    losses = distillation_model(alpha=0.6, beta=0.2)(*batch(), 10)
    soft = sum(losses[f"soft{i}"] for i in (1, 2, 3))
    feature = sum(losses[f"feature{i}"] for i in (1, 2, 3))
    assert torch.allclose(losses["total"], 0.6 * losses["hard"] + 0.4 * soft + 0.2 * feature)


def test_defaults_are_the_papers() -> None:
    settings = Distillation()
    assert (settings.distill, settings.alpha, settings.beta, settings.temperature) == ("on", 0.7, 0.3, 3.0)
    assert (settings.loss, settings.margin) == ("asoftmax", "on")
    assert (settings.teacher, settings.feature, settings.balance) == ("deepest", "linear", "fixed")


def test_baseline_is_the_same_network_and_the_hard_loss_alone() -> None:
    plain, taught = distillation_model(distill="off"), distillation_model()
    for (name, one), (other_name, other) in zip(
        plain.network.state_dict().items(), taught.network.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(one, other)
    losses = plain(*batch(), 0)
    assert set(losses) == {"total", "hard"} and torch.equal(losses["total"], losses["hard"])
    assert torch.equal(losses["hard"], taught(*batch(), 0)["hard"])


@pytest.mark.parametrize("part", ["soft1", "soft2", "soft3", "feature1", "feature2", "feature3"])
def test_students_learn_from_the_teacher_and_the_teacher_not_from_them(part: str) -> None:
    distilled = distillation_model().train()
    distilled(*batch(), 0)[part].backward()
    stage = int(part[-1])
    gradients = [
        sum(float(p.grad.abs().sum()) for p in s.parameters() if p.grad is not None) for s in distilled.network.stages
    ]
    assert gradients[stage - 1] > 0  # the student's own stage learns
    assert all(gradient == 0 for gradient in gradients[stage:])  # nothing behind it does
    assert distilled.network.head.weight.grad is None
    assert distilled.helpers is not None
    helper = distilled.helpers.classifiers if part.startswith("soft") else distilled.helpers.projections
    assert all((p.grad is not None) == (number == stage - 1) for number, m in enumerate(helper) for p in m.parameters())


def test_distance_is_zero_for_equal_predictions_and_matches_a_hand_calculation() -> None:
    logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    assert abs(float(distance(logits, logits, 3.0))) < 1e-6
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0 * math.log(3.0), 0.0]])
    # T = 2: teacher 3/4, 1/4 against 1/2, 1/2, times 4
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert math.isclose(float(distance(student, teacher, 2.0)), expected, rel_tol=1e-5)


def test_the_helpers_are_one_module_and_scores_stay_when_it_is_deleted() -> None:
    distilled = distillation_model().eval()
    features = batch()[0]
    scores = distilled.scores(features)
    assert scores.shape == (6, 4)
    auxiliary = {name for name in distilled.state_dict() if not name.startswith("network.")}
    assert auxiliary and all(name.startswith("helpers.") for name in auxiliary)
    logits = distilled.network(features)
    assert torch.allclose(scores[:, 3], logits[:, 1] - logits[:, 0], atol=1e-6)
    distilled.helpers = None
    assert torch.equal(distilled.scores(features), scores[:, 3:])


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "crossentropy"])
def test_the_margin_setting_reaches_the_loss(loss: str) -> None:
    hard = [distillation_model(loss=loss, margin=margin)(*batch(), 10**6)["hard"] for margin in ("on", "off")]
    assert hard[0] > hard[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_teaches_every_exit(loss: str) -> None:
    distilled = distillation_model(loss=loss).train()
    distilled(*batch(), 0)["total"].backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in distilled.parameters())
    assert distilled.helpers is not None
    assert {type(each) for each in (*distilled.helpers.classifiers, distilled.network.head)} == {LOSSES[loss].head}
    assert distilled.eval().scores(batch()[0]).shape == (6, 4)


def test_a_network_of_another_loss_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        DistillationModel(build("ecanet9", width=0.25), Distillation(loss="amsoftmax"))
