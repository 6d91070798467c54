"""Res2Net with 50 layers: plain, with squeeze-and-excitation, and with the fused gate of MPIF-Res2Net.

Res2Net (Gao et al., TPAMI 2021) splits a unit's channels into groups and adds each group's output to the next
group's input, so one unit has several receptive fields:

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
    stride    only units of stride 2 skip the additions between groups (shapes differ) and average group 4; theirs do
              so in every stage's first unit
    stem      one 1x1 convolution, as in our other networks; theirs has three 3x3
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from train.networks.blocks import GATES, SE_REDUCTION, Gate, TemporalLayers, shortcut
from train.networks.heads import AngleLinear, Head
from train.networks.senet import STAGE_WIDTHS, STEM_WIDTH, StagedNetwork, scaled, staged

SCALE = 4  # groups of a unit's channels
UNITS = (3, 4, 6, 3)
MAP_KERNEL = 7  # bands or frames under a kernel of MPIF's maps, as in CBAM's spatial map (Woo et al. 2018)


class ChannelGroups(nn.Module):
    """A 1x1 convolution, its output split into groups of channels."""

    def __init__(self, inputs: int, group: int) -> None:
        super().__init__()
        width = SCALE * group
        self.body = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.body(x).chunk(SCALE, dim=1)


class Res2Unit(nn.Module):
    """relu(gate(1x1(groups)) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int, time: TemporalLayers, gate: Gate) -> None:
        super().__init__()
        group = max(1, outputs // SCALE)
        self.groups = ChannelGroups(inputs, group)
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(group, group, 3, stride, 1, bias=False), nn.BatchNorm2d(group), nn.ReLU(inplace=True)
            )
            for _ in range(SCALE - 1)
        )
        self.additive = stride == 1
        self.rest = nn.Identity() if self.additive else nn.AvgPool2d(3, stride, 1)
        self.merge = nn.Sequential(nn.Conv2d(SCALE * group, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.gate = gate(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        *groups, last = self.groups(x)
        outputs: list[Tensor] = []
        for group, convolution in zip(groups, self.convolutions, strict=True):
            outputs.append(convolution(group + outputs[-1] if outputs and self.additive else group))
        merged = self.merge(torch.cat([*outputs, self.rest(last)], dim=1))
        return torch.relu(self.gate(merged) + self.shortcut(x))


class PerspectiveFusion(nn.Module):
    """Channel, frequency and time attention in one gate: our reading of MPIF-Res2Net (Dong et al. 2023).

    The abstract fuses several perspectives to keep the learned features diverse; there is no public code. Here the
    channels are squeezed once, and three attention paths weigh every value:

        x -1x1-> squeezed -+- mean over frames -+- mean over bands -> relu -> 1x1 -> sigmoid    (channels, 1, 1)
                           |                    '- relu -> 7x1 -.                                       |
                           '- mean over bands ---- relu -> 1x7 -+- sigmoid    (1, bands, frames)        v
        x ------------------------------------------------------'--------------------------------> their product

    The channel path is squeeze-and-excitation exactly (its first layer and the mean change places); the map over bands
    and frames is the difference to SE-Res2Net.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.channel = nn.Conv2d(hidden, channels, 1)
        self.frequency = nn.Conv2d(hidden, 1, (MAP_KERNEL, 1), padding=(MAP_KERNEL // 2, 0))
        self.time = nn.Conv2d(hidden, 1, (1, MAP_KERNEL), padding=(0, MAP_KERNEL // 2))

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        bands, frames = squeezed.mean(dim=3, keepdim=True), squeezed.mean(dim=2, keepdim=True)
        channel = self.channel(torch.relu(self.pool(bands)))
        place = self.frequency(torch.relu(bands)) + self.time(torch.relu(frames))
        return x * torch.sigmoid(channel) * torch.sigmoid(place)


def no_gate(channels: int) -> nn.Module:
    return nn.Identity()


RES2NETS: dict[str, Gate] = {"res2net50": no_gate, "seres2net50": GATES["se"], "mpif50": PerspectiveFusion}


def res2net(
    gate: Gate, width: float = 1.0, dropout: float = 0.0, head: type[Head] = AngleLinear, **form: Any
) -> StagedNetwork:
    """Build one of the three; `width` scales every channel count, in whole groups; `form` is that of `staged`."""
    stem = scaled(STEM_WIDTH, width)
    widths = [SCALE * scaled(channels // SCALE, width, 1) for channels in STAGE_WIDTHS]
    return staged(stem, partial(Res2Unit, gate=gate), widths, UNITS, dropout, head, **form)
