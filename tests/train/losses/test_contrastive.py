"""The contrastive loss over originals and copies."""

from typing import Any

import pytest
import torch

from train.config import Distillation
from train.losses.contrastive import TEMPERATURE, contrastive
from train.losses.distillation import DistillationModel
from train.networks import build


def test_it_is_the_mean_over_pairs_of_one_class() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(5, 7), torch.tensor([0, 0, 1, 1, 1])
    unit = x / x.norm(dim=1, keepdim=True)
    means = list[torch.Tensor]()
    for i in range(5):
        others = [j for j in range(5) if j != i]
        total = sum(torch.exp(unit[i] @ unit[j] / TEMPERATURE) for j in others)
        alike = [j for j in others if target[j] == target[i]]
        shares = [torch.exp(unit[i] @ unit[j] / TEMPERATURE) / total for j in alike]
        means.append(-torch.log(torch.stack(shares)).mean())
    assert torch.allclose(contrastive(x, target), torch.stack(means).mean(), atol=1e-5)
    assert torch.allclose(contrastive(3 * x, target), contrastive(x, target), atol=1e-5)  # directions alone count


def test_classes_apart_cost_less_and_a_lone_clip_has_no_pair() -> None:
    target = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    assert contrastive(apart, target) < contrastive(apart[[0, 2, 1, 3]], target)
    lone = contrastive(apart[:3].requires_grad_(), target[:3])
    lone.backward()
    assert torch.isfinite(lone)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("distill", ["on", "off"])
def test_it_is_added_to_the_total(distill: Any, streaming: bool) -> None:
    torch.manual_seed(0)
    network = build("ecanet9", 0.1, gate_seconds=1.0 if streaming else None)
    models = [DistillationModel(network, Distillation(distill, pair_loss=weight)).eval() for weight in (0.0, 0.5)]
    if distill == "on":
        models[1].load_state_dict(models[0].state_dict())
    features, target = torch.randn(4, 1, 45, 160), torch.tensor([0, 1, 0, 1])
    plain, paired = (model(features, target, 0) for model in models)
    pooled = network.embeddings(features)[-1].unflatten(0, (4, -1))[:, -1]
    assert torch.allclose(paired["pair"], contrastive(pooled, target), atol=1e-4)
    assert torch.allclose(paired["total"], plain["total"] + 0.5 * paired["pair"], atol=1e-4)
