"""Weights of the three losses: fixed for the run, or learned with the network.

total, weights = balance({"hard": ..., "soft": ..., "feature": ...})
"""

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]


class FixedWeights(nn.Module):
    """Σ w L, with the w of the command line."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: Losses) -> tuple[Tensor, Losses]:
        """Return the total, and the weights for the history if they change."""
        return torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum(), {}


class UncertaintyWeights(FixedWeights):
    """Σ w exp(-s) L + s / 2 with a learned s for each loss (Kendall et al., CVPR 2018, for classification).

    s is the log variance of a loss, initially zero, so the weights start as on the command line; the optimum is
    w exp(-s) L = 1/2, whatever the start. A weight of zero switches its loss off. The total can be negative.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights if weights[name]})

    def forward(self, losses: Losses) -> tuple[Tensor, Losses]:
        current = {name: self.weights[name] * torch.exp(-s) for name, s in self.variances.items()}
        # Zero times a loss instead of leaving it out: DistributedDataParallel waits for every weight's gradient.
        parts = [current.get(name, 0.0) * loss for name, loss in losses.items()]
        parts += [s / 2 for s in self.variances.values()]
        return torch.stack(parts).sum(), {f"weight_{name}": weight for name, weight in current.items()}


BALANCES: dict[str, type[FixedWeights]] = {"fixed": FixedWeights, "uncertainty": UncertaintyWeights}
