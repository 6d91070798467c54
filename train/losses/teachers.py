"""Teachers in self-distillation. No gradient flows into a teacher.

| --teacher | students       | teacher                                                                               |
| deepest   | stages 1, 2, 3 | stage 4 (Xue et al., ICASSP 2023)                                                     |
| next      | stages 1, 2, 3 | the next deeper stage: 4 teaches 3, 3 teaches 2, 2 teaches 1 (progressive)            |
| average   | stages 1 to 4  | stage 4 of the moving average of the weights (mean teacher, Tarvainen & Valpola 2017) |

Only the average has weights; they are helpers, so last.pt holds them and a resumed run is exact.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from train.config import Distillation
from train.losses.stage_outputs import StageOutput, run_stages
from train.networks.senet import StagedNetwork

Target = tuple[int, StageOutput]  # index of the student's stage, and its teacher's output


class DeepestStage(nn.Module):
    """The last stage teaches all others."""

    def __init__(self, network: StagedNetwork, classifiers: nn.ModuleList, settings: Distillation) -> None:
        super().__init__()

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the widths of every student and its teacher, in the order of `targets`."""
        return [(width, widths[-1]) for width in widths[:-1]]

    def targets(self, outputs: list[StageOutput], features: Tensor) -> list[Target]:
        """Return every student with its teacher's output on the batch."""
        return [(number, outputs[-1].detach()) for number in range(len(outputs) - 1)]

    def advance(self, network: StagedNetwork, classifiers: nn.ModuleList, step: int) -> None:
        """Follow the weights after optimiser step `step`, from 0."""

    def deployed(self, network: StagedNetwork, classifiers: nn.ModuleList) -> tuple[StagedNetwork, nn.ModuleList]:
        """Return the network that is scored on dev and deployed."""
        return network, classifiers


class NextStage(DeepestStage):
    """Every stage teaches the one before it."""

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        return list(pairwise(widths))

    def targets(self, outputs: list[StageOutput], features: Tensor) -> list[Target]:
        return [(number, output.detach()) for number, output in enumerate(outputs[1:])]


class MeanTeacher(DeepestStage):
    """The moving average of the network and its classifiers; its deepest stage teaches all stages.

    It decays by min(decay, 1 - 1 / (step + 1)), the warm-up of the paper's code: the network itself after the first
    step, then the mean of all steps, until that exceeds the horizon of `decay`. Its batch norms normalise by the batch,
    and keep statistics of their own for deployment.
    """

    def __init__(self, network: StagedNetwork, classifiers: nn.ModuleList, settings: Distillation) -> None:
        super().__init__(network, classifiers, settings)
        self.decay, self.shipped = settings.decay, settings.ship == "average"
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.classifiers = copy.deepcopy(classifiers).requires_grad_(False)

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        return [(width, widths[-1]) for width in widths]

    @torch.no_grad()
    def targets(self, outputs: list[StageOutput], features: Tensor) -> list[Target]:
        energy = outputs[-1].energy is not None
        teacher = run_stages(self.network.stage_outputs, [self.network.head], features, energy)[-1]
        return [(number, teacher) for number in range(len(outputs))]

    @torch.no_grad()
    def advance(self, network: StagedNetwork, classifiers: nn.ModuleList, step: int) -> None:
        new = 1 - min(self.decay, 1 - 1 / (step + 1))
        for own, trained in ((self.network, network), (self.classifiers, classifiers)):
            for average, weight in zip(own.parameters(), trained.parameters(), strict=True):
                average.lerp_(weight, new)

    def deployed(self, network: StagedNetwork, classifiers: nn.ModuleList) -> tuple[StagedNetwork, nn.ModuleList]:
        return (self.network, self.classifiers) if self.shipped else (network, classifiers)


TEACHERS: dict[str, type[DeepestStage]] = {"deepest": DeepestStage, "next": NextStage, "average": MeanTeacher}
