"""How far a student's features are from its teacher's: one module for a pair, called with what both see.

| --feature  | compared                                                     | weights | paper                       |
| linear     | pooled features, the student's through a linear map          | the map | Zhang et al., ICCV 2019     |
| attention  | where a map has its energy, a unit vector for each window    | none    | Zagoruyko & Komodakis, 2017 |
| similarity | which windows of the batch are alike, a unit vector for each | none    | Tung & Mori, ICCV 2019      |
| relational | distances between the windows of the batch, by their mean    | none    | Park et al., CVPR 2019      |

All are means over the windows of the batch; the last three are of the order of one whatever the features' size, and
each class says where its paper scales otherwise. Under torchrun a process compares windows of its own share of the
batch.
"""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from train.losses.stage_outputs import StageOutput

TINY = 1e-12


class Projection(nn.Linear):
    """Squared distance between the teacher's pooled features and a linear map of the student's, mean over the width."""

    energy: ClassVar[bool] = False

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:  # type: ignore[override]
        return functional.mse_loss(super().forward(student.pooled), teacher.pooled)


class Alignment(nn.Module):
    """One without weights."""

    energy: ClassVar[bool] = False  # whether the views must hold their maps' energy

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()


class AttentionTransfer(Alignment):
    """Squared distance between the two energy maps, each as a vector of length 1: from 0 to 2.

    The student's map is averaged down to the size of the deeper one. Their code takes the mean over places instead of
    the sum, and weighs it by a thousand.
    """

    energy = True

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        assert student.energy is not None and teacher.energy is not None
        bands, frames = teacher.energy.shape[1:]
        resized = functional.adaptive_avg_pool2d(student.energy, (bands, frames))
        return (_directions(resized) - _directions(teacher.energy)).square().sum(dim=1).mean()


class SimilarityPreserving(Alignment):
    """Squared distance between rows of the two Gram matrices of the batch, each row of length 1: from 0 to 4.

    Of pooled features, where the paper takes whole maps. The paper divides by the batch once more (and then weighs by
    3000), so that a term shrinks as the batch grows.
    """

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        rows = [_directions(view.pooled @ view.pooled.T) for view in (student, teacher)]
        return (rows[0] - rows[1]).square().sum(dim=1).mean()


class Relational(Alignment):
    """RKD-D: Huber loss between the two matrices of distances, each divided by its mean distance.

    The paper's other half, angles between triplets (RKD-A), is left out: its cost grows with the batch's cube.
    """

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        return functional.smooth_l1_loss(_distances(student.pooled), _distances(teacher.pooled))


def _directions(rows: Tensor) -> Tensor:
    """(batch, ...) -> (batch, all the rest), each of length 1."""
    return functional.normalize(rows.flatten(1), dim=1)


def _distances(pooled: Tensor) -> Tensor:
    """(batch, width) -> (batch (batch - 1) / 2,): every pair once, so that a distance of zero to itself has no part."""
    distances = functional.pdist(pooled)
    return distances / (distances.mean() + TINY)


ALIGNMENTS: dict[str, type[Projection] | type[Alignment]] = {
    "linear": Projection,
    "attention": AttentionTransfer,
    "similarity": SimilarityPreserving,
    "relational": Relational,
}
