"""Linear classifiers on the pooled features: (batch, width) -> (batch, 2) logits, spoof and bona fide.

    head = HEADS["ocsoftmax"](width)
    score = head(x)[:, BONAFIDE] - head(x)[:, SPOOF]      # higher is bona fide, as in ASVspoof

Each head belongs to a loss of train.losses.softmax. All are linear maps of x, or of x with its length divided out, so
the exported graph is one small matrix product.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

SPOOF, BONAFIDE = 0, 1  # columns of the logits
CLASSES = 2

SCALE = 20.0  # factor on cosines: s and alpha of Zhang et al. 2021, for both cosine losses
REAL_MARGIN, FAKE_MARGIN = 0.9, 0.2  # m0, m1 of OC-softmax: the cosines that bona fide and spoof are pushed beyond

SHORTEST = 1e-6  # added to the mean square before its root, so that an all-zero embedding has a gradient


def direction(x: Tensor) -> Tensor:
    """Divide each row by its root mean square. The mean, unlike the sum, stays small in half precision."""
    return x / (x * x).mean(dim=1, keepdim=True).add(SHORTEST).sqrt()


class Head(nn.Module, ABC):
    """A linear map of x, or of its direction."""

    cosine: ClassVar[bool] = False  # whether the length of x is divided out

    @abstractmethod
    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return the weights (2, width) and, if there are any, the biases (2,)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(direction(x) if self.cosine else x, *self.matrix())


class AngleLinear(Head):
    """|x| cos(angle) (SphereFace, Liu et al., CVPR 2017): linear with unit weight vectors."""

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_uniform_(self.weight)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        return functional.normalize(self.weight, dim=1), None

    def cosines(self) -> Tensor:
        """Return weights (classes, width) that map a direction, of length root width, to SCALE times the cosine."""
        return functional.normalize(self.weight, dim=1) * (SCALE / math.sqrt(self.weight.shape[1]))


class CosineLinear(AngleLinear):
    """20 cos(angle) (AM-softmax, Wang et al., IEEE SPL 2018): unit weight vectors and unit features."""

    cosine = True

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        return self.cosines(), None


class OneClassLinear(AngleLinear):
    """One vector w for bona fide (OC-softmax, Zhang et al., IEEE SPL 2021): logits -+10 (cos(x, w) - 0.55).

    The paper's score is the cosine; ours is 20 (cos - 0.55), which ranks trials alike. Its zero lies midway between the
    two margins, so the logits are a prediction that a student can imitate.
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


HEADS: dict[str, type[Head]] = {
    "asoftmax": AngleLinear,
    "amsoftmax": CosineLinear,
    "ocsoftmax": OneClassLinear,
    "crossentropy": PlainLinear,
}
