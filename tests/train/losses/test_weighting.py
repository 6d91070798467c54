"""Weights of the losses: the command line's, or learned ones that begin there."""

import math

import pytest
import torch

from train.losses.weighting import FixedWeights, UncertaintyWeights

WEIGHTS = {"hard": 0.7, "soft": 0.3, "feature": 0.2}
LOSSES = {"hard": torch.tensor(2.0), "soft": torch.tensor(0.5), "feature": torch.tensor(3.0)}


def test_both_begin_at_the_weights_of_the_command_line() -> None:
    expected = 0.7 * 2.0 + 0.3 * 0.5 + 0.2 * 3.0
    assert float(FixedWeights(WEIGHTS)(LOSSES)[0]) == pytest.approx(expected)
    total, weights = UncertaintyWeights(WEIGHTS)(LOSSES)
    assert float(total.detach()) == pytest.approx(expected)
    assert {name: float(value.detach()) for name, value in weights.items()} == pytest.approx(
        {f"weight_{name}": weight for name, weight in WEIGHTS.items()}
    )


def test_uncertainty_matches_a_hand_calculation() -> None:
    balance = UncertaintyWeights(WEIGHTS)
    with torch.no_grad():
        balance.variances["hard"].fill_(math.log(2.0))
    total, weights = balance(LOSSES)
    assert float(total.detach()) == pytest.approx(0.35 * 2.0 + math.log(2.0) / 2 + 0.3 * 0.5 + 0.2 * 3.0)
    assert float(weights["weight_hard"].detach()) == pytest.approx(0.35)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_learned_weights_come_to_rest_at_half_over_the_loss(scale: float) -> None:
    """Wherever they began: at rest w exp(-s) L is 1/2 for every loss."""
    balance = UncertaintyWeights({name: scale * weight for name, weight in WEIGHTS.items()})
    optimiser = torch.optim.SGD(balance.parameters(), lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        balance(LOSSES)[0].backward()
        optimiser.step()
    weights = balance(LOSSES)[1]
    assert all(float(weights[f"weight_{name}"] * loss) == pytest.approx(0.5) for name, loss in LOSSES.items())


def test_a_weight_of_zero_leaves_its_loss_out_for_good() -> None:
    balance = UncertaintyWeights({**WEIGHTS, "feature": 0.0})
    ignored = torch.tensor(3.0, requires_grad=True)
    total, weights = balance({**LOSSES, "feature": ignored})
    assert float(total.detach()) == pytest.approx(0.7 * 2.0 + 0.3 * 0.5)
    assert set(weights) == {"weight_hard", "weight_soft"} and len(list(balance.parameters())) == 2
    total.backward()
    assert ignored.grad is not None and float(ignored.grad) == 0.0  # none at all would stop DDP


def test_fixed_weights_have_no_parameters_and_no_line_in_the_history() -> None:
    assert not FixedWeights(WEIGHTS).state_dict() and FixedWeights(WEIGHTS)(LOSSES)[1] == {}
