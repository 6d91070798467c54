"""One optimiser step: plain, or sharpness-aware.

    step = descent(model, optimiser, settings)
    losses = step.step(backward)                    # backward() leaves gradients behind and returns losses by name

Sharpness-aware minimisation (SAM, Foret et al., ICLR 2021) takes the gradient at the highest point of a ball:

    1. backward at w                g = gradient of the loss on this batch
    2. up to w + e                  e = rho g / |g|                     |.| over all weights together
    3. backward at w + e, back to w
    4. clip, Adam at w              with the gradient of w + e

Adaptive SAM (Kwon et al., ICML 2021) measures the ball in units of t = |w| + 0.01 for each weight, so
e = rho t² g / |t g|. Deviation: the authors' code leaves biases out, here all weights are treated alike.

Batch-norm statistics change once a step, at w (as in 2506.11532). Both passes drop the same features. Weight decay is
Adam's and acts at w. Under torchrun both passes average gradients over all processes, so the step is that of one
process with the whole batch, batch norm aside. (Foret et al. also describe one ascent per process.)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.config import Optimiser

Losses = dict[str, Tensor]

ETA = 0.01  # of ASAM: also a weight of zero moves
TINY = 1e-12  # added to the norm, for a gradient of zero


def ascent(weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool = False) -> list[Tensor]:
    """Return the step to the highest point of the ball, to first order."""
    sizes = [weight.detach().abs() + ETA if adaptive else None for weight in weights]
    scaled = [gradient if size is None else gradient * size for gradient, size in zip(gradients, sizes, strict=True)]
    factor = rho / (nn.utils.get_total_norm(scaled) + TINY)
    return [(part if size is None else part * size) * factor for part, size in zip(scaled, sizes, strict=True)]


@contextmanager
def moved(weights: Sequence[Tensor], steps: Sequence[Tensor]) -> Iterator[None]:
    """Add the steps to the weights inside the block, then restore the weights exactly."""
    with torch.no_grad():
        before = [weight.clone() for weight in weights]
        for weight, step in zip(weights, steps, strict=True):
            weight.add_(step)
    try:
        yield
    finally:
        restore(weights, before)


@torch.no_grad()
def restore(tensors: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, before, strict=True):
        tensor.copy_(value)


@dataclass(frozen=True)
class Descent:
    """Backward, clip, optimiser."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    clip: float

    def step(self, backward: Callable[[], Losses]) -> Losses:
        losses = self._gradients(backward)
        if self.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimiser.step()
        return losses

    def _gradients(self, backward: Callable[[], Losses]) -> Losses:
        self.optimiser.zero_grad(set_to_none=True)
        return backward()


@dataclass(frozen=True)
class SharpnessAware(Descent):
    """The same with the gradient at the ball's highest point; `rise` is the increase of the loss up to there."""

    rho: float
    adaptive: bool = False

    def _gradients(self, backward: Callable[[], Losses]) -> Losses:
        losses = super()._gradients(backward)
        weights = [weight for weight in self.module.parameters() if weight.grad is not None]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        statistics = list(self.module.buffers())
        once = [buffer.clone() for buffer in statistics]
        with moved(weights, ascent(weights, gradients, self.rho, self.adaptive)):
            above = super()._gradients(backward)
        restore(statistics, once)
        return {**losses, "rise": above["total"] - losses["total"]}


def descent(module: nn.Module, optimiser: torch.optim.Optimizer, settings: Optimiser) -> Descent:
    """Return the kind of step that the settings name."""
    if settings.sam == "off":
        return Descent(module, optimiser, settings.clip)
    return SharpnessAware(module, optimiser, settings.clip, settings.rho, settings.sam == "adaptive")
