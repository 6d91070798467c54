"""Who teaches whom in self-distillation. No gradient flows into a teacher.

| --teacher | student        | its teacher                                                                           |
| deepest   | stages 1, 2, 3 | stage 4 (Xue et al., ICASSP 2023)                                                     |
| next      | stages 1, 2, 3 | the next deeper stage: 4 teaches 3, 3 teaches 2, 2 teaches 1 (progressive)            |
| average   | stages 1 to 4  | stage 4 of the moving average of the weights (mean teacher, Tarvainen & Valpola 2017) |

Only the average has weights of its own; they are helpers, so last.pt keeps them and a resumed run is exact.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from train.config import Distillation
from train.losses.stage_outputs import StageOutput, run_stages
from train.networks.senet import StagedNetwork

Pair = tuple[int, StageOutput]  # number of the student's stage, from 0; what its teacher sees and says


class Deepest(nn.Module):
    """The last stage teaches all others."""

    def __init__(self, network: StagedNetwork, classifiers: nn.ModuleList, settings: Distillation) -> None:
        super().__init__()

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        """Of every pair's student and teacher, in the order of `lessons`."""
        return [(width, widths[-1]) for width in widths[:-1]]

    def lessons(self, seen: list[StageOutput], features: Tensor) -> list[Pair]:
        return [(number, seen[-1].detach()) for number in range(len(seen) - 1)]

    def advance(self, network: StagedNetwork, classifiers: nn.ModuleList, step: int) -> None:
        """After optimiser step `step`, from 0."""

    def ships(self, network: StagedNetwork, classifiers: nn.ModuleList) -> tuple[StagedNetwork, nn.ModuleList]:
        """What is judged and deployed."""
        return network, classifiers


class Next(Deepest):
    """Every stage teaches the one before it."""

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        return list(pairwise(widths))

    def lessons(self, seen: list[StageOutput], features: Tensor) -> list[Pair]:
        return [(number, view.detach()) for number, view in enumerate(seen[1:])]


class Average(Deepest):
    """The moving average of the network and its classifiers; its deepest stage teaches all stages, the deepest too.

    It decays by min(decay, 1 - 1 / (step + 1)), the warm-up of the paper's code: after the first step it is the network
    itself, then the mean of all steps, until that would look back further than `decay` does. Its batch norms see what
    it sees itself: they normalise by the batch, and their statistics, which count when it ships, are its own.
    """

    def __init__(self, network: StagedNetwork, classifiers: nn.ModuleList, settings: Distillation) -> None:
        super().__init__(network, classifiers, settings)
        self.decay, self.shipped = settings.decay, settings.ship == "average"
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.classifiers = copy.deepcopy(classifiers).requires_grad_(False)

    def widths(self, widths: tuple[int, ...]) -> list[tuple[int, int]]:
        return [(width, widths[-1]) for width in widths]

    @torch.no_grad()
    def lessons(self, seen: list[StageOutput], features: Tensor) -> list[Pair]:
        energy = seen[-1].energy is not None
        teacher = run_stages(self.network.stage_outputs, [self.network.head], features, energy)[-1]
        return [(number, teacher) for number in range(len(seen))]

    @torch.no_grad()
    def advance(self, network: StagedNetwork, classifiers: nn.ModuleList, step: int) -> None:
        new = 1 - min(self.decay, 1 - 1 / (step + 1))
        for own, trained in ((self.network, network), (self.classifiers, classifiers)):
            for average, weight in zip(own.parameters(), trained.parameters(), strict=True):
                average.lerp_(weight, new)

    def ships(self, network: StagedNetwork, classifiers: nn.ModuleList) -> tuple[StagedNetwork, nn.ModuleList]:
        return (self.network, self.classifiers) if self.shipped else (network, classifiers)


TEACHERS: dict[str, type[Deepest]] = {"deepest": Deepest, "next": Next, "average": Average}
