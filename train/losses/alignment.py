"""Distances between a student's and its teacher's features: one module per pair.

| --feature  | compared                                                     | weights | paper                       |
| linear     | pooled features, the student's through a linear map          | the map | Zhang et al., ICCV 2019     |
| attention  | energy maps, a unit vector per window                        | none    | Zagoruyko & Komodakis, 2017 |
| similarity | rows of the batch's Gram matrix, each a unit vector          | none    | Tung & Mori, ICCV 2019      |
| relational | distances between the windows of the batch, over their mean  | none    | Park et al., CVPR 2019      |

All are means over the windows of the batch. The last three are of order one for any feature size; each class names the
scale of its paper. Under torchrun a process compares the windows of its share of the batch.
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
    """A distance without weights."""

    energy: ClassVar[bool] = False  # whether it needs energy maps

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()


class AttentionTransfer(Alignment):
    """Squared distance between the two energy maps as unit vectors: from 0 to 2.

    The student's map is averaged down to the size of the teacher's. The authors' code averages over the map instead of
    summing, with a weight of a thousand.
    """

    energy = True

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        assert student.energy is not None and teacher.energy is not None
        bands, frames = teacher.energy.shape[1:]
        resized = functional.adaptive_avg_pool2d(student.energy, (bands, frames))
        return (_directions(resized) - _directions(teacher.energy)).square().sum(dim=1).mean()


class SimilarityPreserving(Alignment):
    """Squared distance between rows of the two Gram matrices of the batch, each a unit vector: from 0 to 4.

    Of pooled features, where the paper takes whole maps. The paper divides by the batch once more (with a weight of
    3000), so its term shrinks as the batch grows.
    """

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        rows = [_directions(output.pooled @ output.pooled.T) for output in (student, teacher)]
        return (rows[0] - rows[1]).square().sum(dim=1).mean()


class Relational(Alignment):
    """RKD-D: Huber loss between the two matrices of distances, each divided by its mean distance.

    The paper's other half, angles between triplets (RKD-A), is left out: its cost grows with the cube of the batch.
    """

    def forward(self, student: StageOutput, teacher: StageOutput) -> Tensor:
        return functional.smooth_l1_loss(_distances(student.pooled), _distances(teacher.pooled))


def _directions(rows: Tensor) -> Tensor:
    """Flatten (batch, ...) to rows of length 1."""
    return functional.normalize(rows.flatten(1), dim=1)


def _distances(pooled: Tensor) -> Tensor:
    """Map (batch, width) to (batch (batch - 1) / 2,), every pair once, without the zero distances to itself."""
    distances = functional.pdist(pooled)
    return distances / (distances.mean() + TINY)


ALIGNMENTS: dict[str, type[Projection] | type[Alignment]] = {
    "linear": Projection,
    "attention": AttentionTransfer,
    "similarity": SimilarityPreserving,
    "relational": Relational,
}
