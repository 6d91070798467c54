"""Adam as published, and the learning rate over the steps of a run."""

import math

import torch
from torch import nn

from train.config import Optimiser

BETAS, EPSILON = (0.9, 0.98), 1e-9  # as published


def adam(module: nn.Module, settings: Optimiser) -> torch.optim.Adam:
    """Return Adam with the paper's constants; weight decay is L2 inside Adam, as in PyTorch's Adam."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.Adam(parameters, settings.lr, BETAS, EPSILON, settings.weight_decay)


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Return the rate at step `step` of `steps`: linear warm-up, then constant or half a cosine down to zero."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = (step - settings.warmup) / max(1, steps - settings.warmup)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))
