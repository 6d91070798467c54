"""Classification losses with a margin; each trains its own head of train.networks.heads.

    criterion = LOSSES["ocsoftmax"](margin=True)
    head = criterion.head(width)
    loss = criterion(x, head(x), target, step)

docs/training.md compares them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from train.networks.heads import CLASSES, FAKE_MARGIN, HEADS, REAL_MARGIN, SCALE, Head

ANGLE_FACTOR = 4  # m of A-softmax
LAMBDA_START, LAMBDA_FLOOR, LAMBDA_DECAY = 1500.0, 5.0, 0.1  # lambda = max(5, 1500 / (1 + 0.1 step)), as published
ADDITIVE_MARGIN = 0.9  # m of AM-softmax in Zhang et al. 2021; 0.35 in Wang et al. 2018, for faces


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, and the base of the losses with a margin; `margin=False` removes the margin."""

    margin: bool = True
    head: ClassVar[type[Head]] = HEADS["crossentropy"]

    def schedule(self, step: int) -> dict[str, float]:
        """Return by name the quantities that change with the optimiser step, for the history."""
        return {}

    def with_margin(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """Return the logits after the margin."""
        return logits

    def __call__(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """Return the mean loss; embedding (batch, width), its logits (batch, 2), target (batch,) of 0 and 1.

        A floating-point target is a mixed label, the share of bona fide: it weighs the losses of both classes.
        """
        if not target.is_floating_point():
            return self._losses(embedding, logits, target, step, "mean")
        zeros = torch.zeros_like(target, dtype=torch.int64)
        as_spoof, as_bonafide = (self._losses(embedding, logits, label, step, "none") for label in (zeros, zeros + 1))
        return ((1 - target) * as_spoof + target * as_bonafide).mean()

    def _losses(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int, reduction: str) -> Tensor:
        logits = logits.float()
        if self.margin:
            logits = self.with_margin(embedding, logits, target, step)
        return functional.cross_entropy(logits, target, reduction=reduction)


class AngularSoftmax(CrossEntropy):
    """A-softmax (SphereFace): the target's cosine becomes (psi + lambda cosine) / (1 + lambda).

    lambda starts large, as a plain softmax, and falls with the optimiser step over the whole run.
    """

    head = HEADS["asoftmax"]

    def weight(self, step: int) -> float:
        """Return lambda at an optimiser step."""
        return max(LAMBDA_FLOOR, LAMBDA_START / (1.0 + LAMBDA_DECAY * step))

    def schedule(self, step: int) -> dict[str, float]:
        return {"lambda": self.weight(step)}

    def with_margin(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        length = embedding.float().norm(dim=1).clamp_min(1e-6)
        cosine = (logits.gather(1, target[:, None])[:, 0] / length).clamp(-1.0, 1.0)
        weight = self.weight(step)
        mixed = length * (psi(cosine) + weight * cosine) / (1.0 + weight)
        return logits.scatter(1, target[:, None], mixed[:, None])


class AdditiveMarginSoftmax(CrossEntropy):
    """AM-softmax: cross-entropy in which the target's cosine is reduced by the margin."""

    head = HEADS["amsoftmax"]

    def with_margin(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        return logits - SCALE * ADDITIVE_MARGIN * functional.one_hot(target, CLASSES)


class OneClassSoftmax(CrossEntropy):
    """OC-softmax: log(1 + exp(20 (0.9 - cos))) for bona fide, log(1 + exp(20 (cos - 0.2))) for spoof.

    Written as cross-entropy: 20 (0.9 - cos) is minus the score plus 20 times half the distance of the margins.
    """

    head = HEADS["ocsoftmax"]

    def with_margin(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        return logits - SCALE * (REAL_MARGIN - FAKE_MARGIN) / 2 * functional.one_hot(target, CLASSES)


LOSSES: dict[str, type[CrossEntropy]] = {
    "asoftmax": AngularSoftmax,
    "amsoftmax": AdditiveMarginSoftmax,
    "ocsoftmax": OneClassSoftmax,
    "crossentropy": CrossEntropy,
}


def psi(cosine: Tensor) -> Tensor:
    """Return (-1)^k cos(4 angle) - 2k: cos(4 angle), continued to fall monotonically from 0 to 180 degrees."""
    quadrant = (ANGLE_FACTOR * torch.acos(cosine.detach()) / torch.pi).floor().clamp(max=ANGLE_FACTOR - 1)
    sign = 1.0 - 2.0 * (quadrant % 2)
    square = cosine * cosine
    return sign * (8.0 * square * (square - 1.0) + 1.0) - 2.0 * quadrant
