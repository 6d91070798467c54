"""The classifier on top: AngleLinear (SphereFace, Liu et al., CVPR 2017) and its A-softmax loss.

A class's logit is |x| cos(angle between x and the class's weight vector): linear in x, so what is exported is one small
matrix product. The margin exists only inside the training loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

SPOOF, BONAFIDE = 0, 1  # column of the logits; score = bona fide - spoof, so higher is bona fide, as in ASVspoof
CLASSES = 2

MARGIN = 4  # m: the target's angle is judged as if it were four times as large
LAMBDA_START, LAMBDA_FLOOR, LAMBDA_DECAY = 1500.0, 5.0, 0.1  # lambda = max(5, 1500 / (1 + 0.1 step)), as published


class AngleLinear(nn.Module):
    """(batch, width) -> (batch, 2) logits |x| cos(angle); the weight vectors count only by their direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(CLASSES, width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, functional.normalize(self.weight, dim=1))


@dataclass(frozen=True)
class AngularSoftmax:
    """A-softmax: cross-entropy in which the target's cosine becomes (psi + lambda cosine) / (1 + lambda).

    lambda falls with the optimiser's step and is large at first, so that training starts as a plain softmax. One
    schedule for the whole run; the step is saved with the checkpoint. `margin=False` leaves plain cross-entropy.
    """

    margin: bool = True

    def weight(self, step: int) -> float:
        """lambda at an optimiser step."""
        return max(LAMBDA_FLOOR, LAMBDA_START / (1.0 + LAMBDA_DECAY * step))

    def __call__(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """Mean loss over a batch; embedding (batch, width), logits (batch, 2) of it, target (batch,) of 0 and 1.

        A target in floating point is a mixed label, the share of bona fide: both classes' losses are weighed by it.
        """
        if target.is_floating_point():
            spoof, bonafide = torch.zeros_like(target, dtype=torch.int64), torch.ones_like(target, dtype=torch.int64)
            as_spoof = self._losses(embedding, logits, spoof, step, "none")
            as_bonafide = self._losses(embedding, logits, bonafide, step, "none")
            return ((1 - target) * as_spoof + target * as_bonafide).mean()
        return self._losses(embedding, logits, target, step, "mean")

    def _losses(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int, reduction: str) -> Tensor:
        logits = logits.float()
        if self.margin:
            length = embedding.float().norm(dim=1).clamp_min(1e-6)
            wanted = logits.gather(1, target[:, None])[:, 0]
            cosine = (wanted / length).clamp(-1.0, 1.0)
            keep = self.weight(step)
            mixed = length * (psi(cosine) + keep * cosine) / (1.0 + keep)
            logits = logits.scatter(1, target[:, None], mixed[:, None])
        return functional.cross_entropy(logits, target, reduction=reduction)


def psi(cosine: Tensor) -> Tensor:
    """cos(4 angle) continued so that it falls monotonically over the whole half circle: (-1)^k cos(4 angle) - 2k."""
    quadrant = (MARGIN * torch.acos(cosine.detach()) / torch.pi).floor().clamp(max=MARGIN - 1)
    sign = 1.0 - 2.0 * (quadrant % 2)
    square = cosine * cosine
    return sign * (8.0 * square * (square - 1.0) + 1.0) - 2.0 * quadrant
