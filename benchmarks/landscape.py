"""How the loss lies around a network's weights: how far it rises within a small ball, batch by batch.

    rises = Landscape(network, rho=0.05).rise(features, target)       # of one batch

The sharpness is that of "From Sharpness to Better Generalization for Speech Deepfake Detection" (Huang et al.,
Interspeech 2025) as its code computes it, which is m-sharpness (Foret et al., ICLR 2021): in eval mode, for one batch
of m trials with the gradient g of its own loss, loss(w + rho g / |g|) - loss(w). Beside it stands what random
directions of the same length do: Gaussian, filter by filter as long as the filter itself (Li et al., NeurIPS 2018;
biases and batch norms stay), then all together scaled to the length rho.

The loss is cross-entropy of the logits whatever the network was trained with, so that networks can be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from train.losses.sam import ascent, moved

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Rise:
    """Of the loss on one batch."""

    loss: float  # at the weights
    ascent: float  # at the highest point of the ball as the gradient has it: the sharpness
    mean: float  # over the random directions
    largest: float  # of them


class Landscape:
    """A network that is moved about and always comes back to its weights."""

    def __init__(
        self, network: nn.Module, rho: float, adaptive: bool = False, directions: int = 4, seed: int = 0
    ) -> None:
        self.network, self.rho, self.adaptive = network.eval(), rho, adaptive
        self.weights = [weight.requires_grad_() for weight in network.parameters()]
        generator = torch.Generator().manual_seed(seed)
        self.directions = [random_direction(self.weights, rho, generator) for _ in range(directions)]

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(self.network(features), target)

    def rise(self, features: Tensor, target: Tensor) -> Rise:
        """(batch, 1, bands, frames), (batch,) of 0 and 1."""
        here = self.loss(features, target)
        up = ascent(self.weights, torch.autograd.grad(here, self.weights), self.rho, self.adaptive)
        rises = []
        for steps in (up, *self.directions):
            with torch.no_grad(), moved(self.weights, steps):
                rises.append(float(self.loss(features, target) - here))
        first, *others = rises
        return Rise(float(here.detach()), first, float(np.mean(others)), float(np.max(others)))


def random_direction(weights: Sequence[Tensor], rho: float, generator: torch.Generator) -> list[Tensor]:
    """One step of length rho; drawn on the CPU, so that every device takes the same."""
    steps = []
    for weight in weights:
        step = torch.zeros_like(weight)
        if weight.ndim > 1:
            filters = torch.randn(weight.shape, generator=generator).to(weight.device).flatten(1)
            sizes = weight.detach().flatten(1).norm(dim=1) / filters.norm(dim=1)
            step = (filters * sizes[:, None]).view(weight.shape)
        steps.append(step)
    factor = rho / nn.utils.get_total_norm(steps)
    return [step * factor for step in steps]


def draw_batches(bonafide: Indices, spoof: Mapping[str, Indices], size: int, seed: int) -> dict[str, list[Indices]]:
    """Batches of every source, (size,) each: half of it spoof, no clip twice, and half of the bona fide in turn.

    All batches are equally large because sharpness grows as they shrink: sources of many and of few clips could not
    be compared otherwise. What a source has beyond whole batches is not used; one too small for any has none.
    """
    rng, half = np.random.default_rng(seed), size // 2
    wanted = half * sum(len(clips) // half for clips in spoof.values())
    rounds = -(-wanted // len(bonafide))
    real = iter(np.concatenate([rng.permutation(bonafide) for _ in range(max(1, rounds))]).tolist())
    drawn = {}
    for source, clips in spoof.items():
        fake = rng.permutation(clips)[: len(clips) // half * half].reshape(-1, half)
        drawn[source] = [np.concatenate([row, [next(real) for _ in range(half)]]) for row in fake]
    return drawn


# ---- rank correlation ------------------------------------------------------------------------------------------------


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation, equal values sharing their mean rank; NaN where all values of one are equal."""
    one, other = _ranks(a), _ranks(b)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    ranks: NDArray[np.float64] = mean_ranks[place]
    return ranks


def bootstrap_spearman(
    a: Sequence[NDArray[np.float64]], b: Sequence[NDArray[np.float64]], resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Rank correlations of resampled sources (resamples,), without those where one side is all equal.

    Of every source, a is the mean of its values drawn with replacement, and b one of its values, which are resampled
    already; then sources are drawn with replacement.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        ours = np.array([rng.choice(part, len(part)).mean() for part in a])
        theirs = np.array([rng.choice(part) for part in b])
        drawn = rng.integers(len(a), size=len(a))
        found.append(spearman(ours[drawn], theirs[drawn]))
    values = np.array(found)
    return values[np.isfinite(values)]
