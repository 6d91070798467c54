"""Adam as published, and the learning rate over the steps of a run."""

import math

import torch
from torch import nn

from train.config import Optimiser

BETAS, EPSILON = (0.9, 0.98), 1e-9  # as published


def adam(module: nn.Module, settings: Optimiser, encoder_rate: float | None = None) -> torch.optim.Adam:
    """Return Adam with the paper's constants; weight decay is L2 inside Adam, as in PyTorch's Adam.

    `encoder_rate` is the factor on the learning rate of a pretrained encoder's stem and layers.
    """
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    groups = [{"params": list(trained.values()), "factor": 1.0}]
    if encoder_rate is not None:
        own = {name for name in trained if name.startswith(("network.stem.", "network.stages."))}
        groups[0]["params"] = [parameter for name, parameter in trained.items() if name not in own]
        groups.append({"params": [trained[name] for name in sorted(own)], "factor": encoder_rate})
    return torch.optim.Adam(
        [group for group in groups if group["params"]], settings.lr, BETAS, EPSILON, settings.weight_decay
    )


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Return the rate at step `step` of `steps`: linear warm-up, then constant or half a cosine down to zero."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = (step - settings.warmup) / max(1, steps - settings.warmup)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))
