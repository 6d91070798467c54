"""What every stage of a network sees of a batch, and what its classifier says to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Stages = Callable[[Tensor, bool], tuple[list[Tensor], list[Tensor]]]  # train.networks.senet.StagedNetwork.stage_outputs


@dataclass(frozen=True)
class StageOutput:
    """One stage's, in full precision."""

    pooled: Tensor  # (batch, width)
    logits: Tensor  # (batch, 2)
    energy: Tensor | None  # (batch, bands, frames), where asked for: the mean square over channels

    def detach(self) -> "StageOutput":
        return StageOutput(
            self.pooled.detach(), self.logits.detach(), None if self.energy is None else self.energy.detach()
        )


def run_stages(
    stages: Stages, classifiers: Sequence[nn.Module], features: Tensor, energy: bool = False
) -> list[StageOutput]:
    """Of the stages that have a classifier, shallow to deep; the last classifier is the last stage's."""
    pooled, energies = stages(features, energy)
    pooled = [x.float() for x in pooled[-len(classifiers) :]]
    with torch.autocast(features.device.type, enabled=False):
        logits = [classifier(x) for classifier, x in zip(classifiers, pooled, strict=True)]
    maps: Sequence[Tensor | None] = energies[-len(classifiers) :] if energy else [None] * len(classifiers)
    return [StageOutput(*parts) for parts in zip(pooled, logits, maps, strict=True)]
