"""The classifier on top and the loss that trains it. Four of them, each in two parts: a head and its loss.

    criterion = LOSSES["ocsoftmax"](margin=True)
    head = criterion.head(width)                     # (batch, width) -> (batch, 2) logits: spoof, bona fide
    loss = criterion(x, head(x), target, step)

| loss         | logits                     | what the margin does, in training alone                             |
| asoftmax     | |x| cos, two classes       | the target's angle is judged as if it were four times as large      |
| amsoftmax    | 20 cos, two classes        | the target's cosine is judged as if it were smaller by 0.9          |
| ocsoftmax    | +-10 (cos - 0.55), one     | bona fide is pulled above a cosine of 0.9, spoof pushed below 0.2   |
| crossentropy | w x + b                    | there is none                                                       |

All heads are linear maps, of x or of x with its length divided out: what is exported is one small matrix product.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

SPOOF, BONAFIDE = 0, 1  # column of the logits; score = bona fide - spoof, so higher is bona fide, as in ASVspoof
CLASSES = 2

MARGIN = 4  # m: the target's angle is judged as if it were four times as large
LAMBDA_START, LAMBDA_FLOOR, LAMBDA_DECAY = 1500.0, 5.0, 0.1  # lambda = max(5, 1500 / (1 + 0.1 step)), as published

SCALE = 20.0  # s, alpha: what cosines are multiplied by (Zhang et al. 2021, for both cosine losses)
ADDITIVE_MARGIN = 0.9  # m of AM-softmax in the same paper; 0.35 in Wang et al. 2018, for faces
REAL_MARGIN, FAKE_MARGIN = 0.9, 0.2  # m0, m1 of OC-softmax: the cosines that bona fide and spoof are pushed beyond

SHORTEST = 1e-6  # added to the mean square in front of its root: an embedding of zeros has a gradient too


# ---- heads -----------------------------------------------------------------------------------------------------------


def direction(x: Tensor) -> Tensor:
    """x with its length divided out: rows with a mean square of 1. The mean, not the sum, stays small in half."""
    return x / (x * x).mean(dim=1, keepdim=True).add(SHORTEST).sqrt()


class Head(nn.Module, ABC):
    """(batch, width) -> (batch, 2) logits: a linear map of x, or of its direction."""

    cosine: ClassVar[bool] = False  # whether only the direction of x counts

    @abstractmethod
    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """The map: weights (2, width) and, where it has them, biases (2,)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(direction(x) if self.cosine else x, *self.matrix())


class AngleLinear(Head):
    """|x| cos(angle) (SphereFace, Liu et al., CVPR 2017): the weight vectors count only by their direction."""

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_uniform_(self.weight)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        return functional.normalize(self.weight, dim=1), None

    def cosines(self) -> Tensor:
        """Weights (classes, width) that give SCALE times the cosine with a direction, whose length is root width."""
        return functional.normalize(self.weight, dim=1) * (SCALE / math.sqrt(self.weight.shape[1]))


class CosineLinear(AngleLinear):
    """20 cos(angle) (AM-softmax, Wang et al., IEEE SPL 2018): lengths count neither in the weights nor in x."""

    cosine = True

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        return self.cosines(), None


class OneClassLinear(AngleLinear):
    """One vector w, for bona fide alone (OC-softmax, Zhang et al., IEEE SPL 2021): logits -+10 (cos(x, w) - 0.55).

    The paper's score is the cosine; ours is 20 (cos - 0.55), which orders trials alike. Its zero lies in the middle
    between the two margins, so that the logits are a prediction that a student can imitate.
    """

    cosine = True

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        half = self.cosines() / 2
        middle = half.new_tensor([SCALE * (REAL_MARGIN + FAKE_MARGIN) / 4])
        return torch.cat([-half, half]), torch.cat([middle, -middle])


class PlainLinear(Head):
    """w x + b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(CLASSES, width))
        self.bias = nn.Parameter(torch.zeros(CLASSES))
        nn.init.xavier_uniform_(self.weight)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        return self.weight, self.bias


# ---- losses ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """Cross-entropy, and what the others have in common; `margin=False` leaves them cross-entropy of their logits."""

    margin: bool = True
    head: ClassVar[type[Head]] = PlainLinear

    def schedule(self, step: int) -> dict[str, float]:
        """What changes with the optimiser's step, by name, for the history."""
        return {}

    def harder(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """The logits as the margin has them judged."""
        return logits

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
            logits = self.harder(embedding, logits, target, step)
        return functional.cross_entropy(logits, target, reduction=reduction)


class AngularSoftmax(Loss):
    """A-softmax (SphereFace): the target's cosine becomes (psi + lambda cosine) / (1 + lambda).

    lambda falls with the optimiser's step and is large at first, so that training starts as a plain softmax. One
    schedule for the whole run; the step is saved with the checkpoint.
    """

    head = AngleLinear

    def weight(self, step: int) -> float:
        """lambda at an optimiser step."""
        return max(LAMBDA_FLOOR, LAMBDA_START / (1.0 + LAMBDA_DECAY * step))

    def schedule(self, step: int) -> dict[str, float]:
        return {"lambda": self.weight(step)}

    def harder(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        length = embedding.float().norm(dim=1).clamp_min(1e-6)
        wanted = logits.gather(1, target[:, None])[:, 0]
        cosine = (wanted / length).clamp(-1.0, 1.0)
        keep = self.weight(step)
        mixed = length * (psi(cosine) + keep * cosine) / (1.0 + keep)
        return logits.scatter(1, target[:, None], mixed[:, None])


class AdditiveMarginSoftmax(Loss):
    """AM-softmax: cross-entropy in which the target's cosine is smaller by the margin."""

    head = CosineLinear

    def harder(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        return logits - SCALE * ADDITIVE_MARGIN * functional.one_hot(target, CLASSES)


class OneClassSoftmax(Loss):
    """OC-softmax: log(1 + exp(20 (0.9 - cos))) for bona fide, log(1 + exp(20 (cos - 0.2))) for spoof.

    Written as cross-entropy: 20 (0.9 - cos) is the score's negative plus half the distance of the margins, times 20.
    """

    head = OneClassLinear

    def harder(self, embedding: Tensor, logits: Tensor, target: Tensor, step: int) -> Tensor:
        return logits - SCALE * (REAL_MARGIN - FAKE_MARGIN) / 2 * functional.one_hot(target, CLASSES)


LOSSES: dict[str, type[Loss]] = {
    "asoftmax": AngularSoftmax,
    "amsoftmax": AdditiveMarginSoftmax,
    "ocsoftmax": OneClassSoftmax,
    "crossentropy": Loss,
}


def psi(cosine: Tensor) -> Tensor:
    """cos(4 angle) continued so that it falls monotonically over the whole half circle: (-1)^k cos(4 angle) - 2k."""
    quadrant = (MARGIN * torch.acos(cosine.detach()) / torch.pi).floor().clamp(max=MARGIN - 1)
    sign = 1.0 - 2.0 * (quadrant % 2)
    square = cosine * cosine
    return sign * (8.0 * square * (square - 1.0) + 1.0) - 2.0 * quadrant
