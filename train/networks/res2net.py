"""Res2Net with 50 layers: plain, with squeeze-and-excitation, and with the fused gate of MPIF-Res2Net.

Res2Net (Gao et al., TPAMI 2021) cuts a unit's channels into groups and hands each group's output on to the next, so
that one unit sees several sizes at once:

    x -1x1-+- group 1 ------------- 3x3 -+----------------------.
           |                             v                      |
           +- group 2 ------------------ + - 3x3 -+-------------+
           |                                      v             concat -1x1- gate - + - relu
           +- group 3 --------------------------- + - 3x3 ------+                   |
           '- group 4 ------------------------------------------'                   x, or 1x1 of x

Against spoofing it was introduced by Li et al. (ICASSP 2021), in 3, 4, 6, 3 units of 32 to 256 channels, as here. Where
we deviate from their network:

    width     a unit keeps its stage's width inside, as in our other 50-layer networks: four groups of 8 to 64
              channels; theirs have 6 to 52 (base width 26). Networks differ in one thing, groups fill INT8 vectors
    stride    only where it is 2 do groups not hand on (shapes would not fit) and is group 4 averaged; theirs do so in
              every stage's first unit. The average leaves the padding out
    stem      one 1x1 convolution, as in our other networks; theirs has three 3x3
"""

import torch
from torch import Tensor, nn

from train.networks.blocks import GATES, SE_REDUCTION, Gate
from train.networks.heads import AngleLinear, Head
from train.networks.senet import STAGE_STRIDES, STAGE_WIDTHS, STEM_WIDTH, StagedNetwork, initialise, scaled

SCALE = 4  # groups of a unit's channels
UNITS = (3, 4, 6, 3)
REACH = 7  # bands or frames that MPIF's maps look at, as the spatial map of CBAM (Woo et al. 2018)


class ChannelGroups(nn.Module):
    """A 1x1 convolution whose output comes in groups of channels."""

    def __init__(self, inputs: int, group: int) -> None:
        super().__init__()
        width = SCALE * group
        self.body = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.body(x).chunk(SCALE, dim=1)


class Res2Unit(nn.Module):
    """relu(gate(1x1(groups)) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int, gate: Gate) -> None:
        super().__init__()
        group = max(1, outputs // SCALE)
        self.groups = ChannelGroups(inputs, group)
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(group, group, 3, stride, 1, bias=False), nn.BatchNorm2d(group), nn.ReLU(inplace=True)
            )
            for _ in range(SCALE - 1)
        )
        self.hands_on = stride == 1
        self.rest = nn.Identity() if self.hands_on else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        self.merge = nn.Sequential(nn.Conv2d(SCALE * group, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.gate = gate(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        *groups, last = self.groups(x)
        seen: list[Tensor] = []
        for group, convolution in zip(groups, self.convolutions, strict=True):
            seen.append(convolution(group + seen[-1] if seen and self.hands_on else group))
        merged = self.merge(torch.cat([*seen, self.rest(last)], dim=1))
        return torch.relu(self.gate(merged) + self.shortcut(x))


class PerspectiveFusion(nn.Module):
    """Channel, frequency and time attention in one gate: our reading of MPIF-Res2Net (Dong et al. 2023).

    Its abstract says that clues of one perspective resemble each other and that fusing several keeps what is learned
    diverse; there is no public code. Here the channels are squeezed once, three perspectives look at the result, and
    every value is weighed by what all three say of it:

        x -1x1-> squeezed -+- mean over frames -+- mean over bands -> relu -> 1x1 -> sigmoid    (channels, 1, 1)
                           |                    '- relu -> 7x1 -.                                       |
                           '- mean over bands ---- relu -> 1x7 -+- sigmoid    (1, bands, frames)        v
        x ------------------------------------------------------'--------------------------------> their product

    The channel path is squeeze-and-excitation exactly (its first layer and the mean change places), so what is new
    against SE-Res2Net is the map over bands and frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.channel = nn.Conv2d(hidden, channels, 1)
        self.frequency = nn.Conv2d(hidden, 1, (REACH, 1), padding=(REACH // 2, 0))
        self.time = nn.Conv2d(hidden, 1, (1, REACH), padding=(0, REACH // 2))

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        bands, frames = squeezed.mean(dim=3, keepdim=True), squeezed.mean(dim=2, keepdim=True)
        channel = self.channel(torch.relu(self.pool(bands)))
        place = self.frequency(torch.relu(bands)) + self.time(torch.relu(frames))
        return x * torch.sigmoid(channel) * torch.sigmoid(place)


def no_gate(channels: int) -> nn.Module:
    return nn.Identity()


RES2NETS: dict[str, Gate] = {"res2net50": no_gate, "seres2net50": GATES["se"], "mpif50": PerspectiveFusion}


def res2net(gate: Gate, width: float = 1.0, dropout: float = 0.0, head: type[Head] = AngleLinear) -> StagedNetwork:
    """One of the three; `width` scales every channel count, in whole groups."""
    stem_width = scaled(STEM_WIDTH, width)
    stem = nn.Sequential(nn.Conv2d(1, stem_width, 1, bias=False), nn.BatchNorm2d(stem_width), nn.ReLU(inplace=True))
    widths = tuple(SCALE * scaled(channels // SCALE, width, 1) for channels in STAGE_WIDTHS)
    stages: list[nn.Module] = []
    inputs = stem_width
    for outputs, units, stride in zip(widths, UNITS, STAGE_STRIDES, strict=True):
        first = Res2Unit(inputs, outputs, stride, gate)
        stages.append(nn.Sequential(first, *(Res2Unit(outputs, outputs, 1, gate) for _ in range(units - 1))))
        inputs = outputs
    network = StagedNetwork(stem, stages, widths, dropout, head)
    network.apply(initialise)
    return network
