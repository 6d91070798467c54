"""SENet and ECANet with 9, 18, 34 and 50 layers, as in the self-distillation paper (Xue et al., ICASSP 2023).

    (batch, 1, 45, 600) --stem--> 16 x 45 x 600 --stage 1--> 32 x 45 x 600 --stage 2--> 64 x 23 x 300
                        --stage 3--> 128 x 12 x 150 --stage 4--> 256 x 6 x 75 --mean--> 256 --AngleLinear--> 2

The final mean accepts any number of bands and frames.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from train.networks.blocks import GATES, SYMMETRIC, UNSTRIDED, ResidualUnit, Stride, TemporalLayers
from train.networks.heads import AngleLinear, Head

STEM_WIDTH = 16
STAGE_WIDTHS = (32, 64, 128, 256)
STAGE_STRIDES = (1, 2, 2, 2)
UNITS = {9: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # residual units per stage
KERNELS = {9: (3, 3), 18: (3, 3), 34: (3, 3), 50: (1, 3, 1)}


class StagedNetwork(nn.Module):
    """The form of all our networks: a stem, four stages, and a classifier on the last stage's pooled output.

    Self-distillation uses every stage's pooled output; its classifiers are in train.losses.distillation, so a stripped
    network is this module alone.
    """

    def __init__(
        self, stem: nn.Module, stages: list[nn.Module], widths: tuple[int, ...], dropout: float, head: type[Head]
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.widths = widths
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = head(widths[-1])

    def steps(self, frames: int) -> list[int]:
        """Frame counts after which a window is scored in training; a streaming network has many."""
        return [frames]

    def stage_outputs(self, features: Tensor, energy: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Return for each stage the pooled output (batch, width) and, with `energy`, the mean square over channels
        (batch, bands, frames); features are (batch, 1, bands, frames)."""
        x = self.stem(features)
        pooled, energies = [], []
        for stage in self.stages:
            x = stage(x)
            pooled.append(self.dropout(self.pool(x).flatten(1)))
            if energy:
                energies.append(x.float().square().mean(dim=1))
        return pooled, energies

    def embeddings(self, features: Tensor) -> list[Tensor]:
        """Return the pooled outputs of all stages."""
        return self.stage_outputs(features)[0]

    def forward(self, features: Tensor) -> Tensor:
        """(batch, 1, bands, frames) -> logits (batch, 2): spoof, bona fide."""
        x = self.stem(features)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.dropout(self.pool(x).flatten(1)))


def scaled(channels: int, width: float, least: int = 4) -> int:
    """Multiply a channel count by the width factor."""
    return max(least, round(channels * width))


def staged(
    stem: int,
    unit: Callable[[int, int, int, TemporalLayers], nn.Module],
    widths: Sequence[int],
    units: Sequence[int],
    dropout: float,
    head: type[Head],
    time: TemporalLayers = SYMMETRIC,
    network: type[StagedNetwork] = StagedNetwork,
    stem_stride: Stride = UNSTRIDED,
) -> StagedNetwork:
    """Build a network of units(inputs, outputs, stride, time) behind a stem of `stem` channels.

    Only the stem and the first unit of a stage change the shape.
    """
    inputs, stages = stem, list[nn.Module]()
    first_layers = nn.Sequential(time.stem(stem, stem_stride), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
    time = time.after(stem_stride[1])
    for outputs, count, stride in zip(widths, units, STAGE_STRIDES, strict=True):
        first, time = unit(inputs, outputs, stride, time), time.after(stride)
        stages.append(nn.Sequential(first, *(unit(outputs, outputs, 1, time) for _ in range(count - 1))))
        inputs = outputs
    made = network(first_layers, stages, tuple(widths), dropout, head)
    made.apply(initialise)
    return made


def senet(
    gate: str, layers: int, width: float = 1.0, dropout: float = 0.0, head: type[Head] = AngleLinear, **form: Any
) -> StagedNetwork:
    """Build one of the eight networks; `width` scales channels; `form` is that of `staged`."""
    stem, *widths = (scaled(channels, width) for channels in (STEM_WIDTH, *STAGE_WIDTHS))
    unit = partial(ResidualUnit, kernels=KERNELS[layers], gate=GATES[gate])
    return staged(stem, unit, widths, UNITS[layers], dropout, head, **form)


def initialise(module: nn.Module) -> None:
    """Apply He initialisation to convolutions; batch norms start as identity (PyTorch's default)."""
    if isinstance(module, nn.Conv2d | nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
