"""How the losses are weighed: one number a loss for the whole run, or weights that are learned with the network.

total, weights = balance({"hard": ..., "soft": ..., "feature": ...})
"""

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]


class Fixed(nn.Module):
    """Σ w L, with the w of the command line."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, losses: Losses) -> tuple[Tensor, Losses]:
        """The total, and the weights behind it where they are worth a line in the history."""
        return _sum([weight * losses[name] for name, weight in self.weights.items()]), {}


class Uncertainty(Fixed):
    """Σ w exp(-s) L + s / 2 with a learned s for each loss (Kendall et al., CVPR 2018, for classification).

    s is the logarithm of the loss's variance: a loss that stays large loses weight. It begins at zero, so at the
    weights of the command line, and is at rest where w exp(-s) L = 1/2, wherever it began. A weight of zero leaves its
    loss out for good. The total can become negative; the losses cannot.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights if weights[name]})

    def forward(self, losses: Losses) -> tuple[Tensor, Losses]:
        current = {name: self.weights[name] * torch.exp(-s) for name, s in self.variances.items()}
        # Zero times a loss, not nothing: under torchrun every weight waits for its gradient.
        parts = [current.get(name, 0.0) * loss for name, loss in losses.items()]
        spread = [s / 2 for s in self.variances.values()]
        return _sum(parts + spread), {f"weight_{name}": weight for name, weight in current.items()}


def _sum(parts: list[Tensor]) -> Tensor:
    first, *rest = parts
    return sum(rest, start=first)


BALANCES: dict[str, type[Fixed]] = {"fixed": Fixed, "uncertainty": Uncertainty}
