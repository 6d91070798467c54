"""The outputs of every stage of a network on a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Stages = Callable[[Tensor, bool], tuple[list[Tensor], list[Tensor]]]  # train.networks.senet.StagedNetwork.stage_outputs


@dataclass(frozen=True)
class StageOutput:
    """One stage's output, in full precision."""

    pooled: Tensor  # (batch, width)
    logits: Tensor  # (batch, 2)
    energy: Tensor | None  # (batch, bands, frames), on request: the mean square over channels

    def detach(self) -> "StageOutput":
        energy = None if self.energy is None else self.energy.detach()
        return StageOutput(self.pooled.detach(), self.logits.detach(), energy)


def run_stages(
    stages: Stages, classifiers: Sequence[nn.Module], features: Tensor, energy: bool = False
) -> list[StageOutput]:
    """Return the outputs of the deepest stages, shallow to deep, one for each classifier."""
    pooled, energies = stages(features, energy)
    pooled = [x.float() for x in pooled[-len(classifiers) :]]
    with torch.autocast(features.device.type, enabled=False):
        logits = [classifier(x) for classifier, x in zip(classifiers, pooled, strict=True)]
    maps: Sequence[Tensor | None] = energies[-len(classifiers) :] if energy else [None] * len(classifiers)
    return [StageOutput(*parts) for parts in zip(pooled, logits, maps, strict=True)]
