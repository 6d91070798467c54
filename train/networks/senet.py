"""SENet and ECANet with 9, 18, 34 and 50 layers, as in the self-distillation paper (Xue et al., ICASSP 2023).

    (batch, 1, 45, 600) --stem--> 16 x 45 x 600 --stage 1--> 32 x 45 x 600 --stage 2--> 64 x 23 x 300
                        --stage 3--> 128 x 12 x 150 --stage 4--> 256 x 6 x 75 --mean--> 256 --AngleLinear--> 2

Any number of bands and frames fits: the pooling takes the mean of whatever is left.
"""

from torch import Tensor, nn

from train.networks.blocks import GATES, SYMMETRIC, TemporalLayers, residual_stage
from train.networks.heads import AngleLinear, Head

STEM_WIDTH = 16
STAGE_WIDTHS = (32, 64, 128, 256)
STAGE_STRIDES = (1, 2, 2, 2)
UNITS = {9: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # residual units per stage
KERNELS = {9: (3, 3), 18: (3, 3), 34: (3, 3), 50: (1, 3, 1)}


class StagedNetwork(nn.Module):
    """A stem, four stages, and one classifier on the pooled output of the last stage: what all our networks are.

    Self-distillation looks at every stage's pooled output (`embeddings`); its own classifiers live elsewhere
    (train.losses.distillation), so that a network without them is simply this module.
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
        """Behind which frames of a window the network is taught and judged; one that streams knows many."""
        return [frames]

    def stage_outputs(self, features: Tensor, energy: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """(batch, 1, bands, frames) -> of every stage, shallow to deep, the pooled output (batch, width) and, if asked
        for, where on the map its energy is: the mean square over channels, (batch, bands, frames)."""
        x = self.stem(features)
        pooled, energies = [], []
        for stage in self.stages:
            x = stage(x)
            pooled.append(self.dropout(self.pool(x).flatten(1)))
            if energy:
                energies.append(x.float().square().mean(dim=1))
        return pooled, energies

    def embeddings(self, features: Tensor) -> list[Tensor]:
        """The pooled outputs alone."""
        return self.stage_outputs(features)[0]

    def forward(self, features: Tensor) -> Tensor:
        """(batch, 1, bands, frames) -> logits (batch, 2): spoof, bona fide."""
        x = self.stem(features)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.dropout(self.pool(x).flatten(1)))


def scaled(channels: int, width: float, least: int = 4) -> int:
    """A channel count times the width factor."""
    return max(least, round(channels * width))


def senet(
    gate: str,
    layers: int,
    width: float = 1.0,
    dropout: float = 0.0,
    head: type[Head] = AngleLinear,
    time: TemporalLayers = SYMMETRIC,
    network: type[StagedNetwork] = StagedNetwork,
) -> StagedNetwork:
    """One of the eight networks; `width` scales every channel count (0.25 screens ideas several times faster).

    `time` and `network` say how it looks along time.
    """
    stem_width, *widths = (scaled(channels, width) for channels in (STEM_WIDTH, *STAGE_WIDTHS))
    stem = nn.Sequential(nn.Conv2d(1, stem_width, 1, bias=False), nn.BatchNorm2d(stem_width), nn.ReLU(inplace=True))
    stages: list[nn.Module] = []
    inputs = stem_width
    for outputs, units, stride in zip(widths, UNITS[layers], STAGE_STRIDES, strict=True):
        stages.append(residual_stage(inputs, outputs, units, stride, KERNELS[layers], GATES[gate], time))
        inputs, time = outputs, time.after(stride)
    made = network(stem, stages, tuple(widths), dropout, head)
    made.apply(initialise)
    return made


def initialise(module: nn.Module) -> None:
    """He initialisation for convolutions before ReLU; batch norms start as identity (PyTorch's default)."""
    if isinstance(module, nn.Conv2d | nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
