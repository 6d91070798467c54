"""A light network for small devices: inverted residual units with depthwise convolutions, and ECA's gate.

    (batch, 1, 45, 600) --stem--> 16 x 45 x 300 --stage 1--> 16 x 45 x 300 --stage 2--> 32 x 23 x 150
                        --stage 3--> 64 x 12 x 75 --stage 4--> 128 x 6 x 38 --mean--> 128 --head--> 2

A unit is MobileNetV2's (Sandler et al., CVPR 2018): 1x1 to three times the width, 3x3 on each channel alone, 1x1 back,
and a skip connection where the shape stays. Deviations, each for a reason:

    expansion 3, not 6        moving activations is what costs time on a small device, and here they are widest
    ECA behind the last 1x1   MobileNetV3 (Howard et al., ICCV 2019) gates the wide part; this is a third of it
    ReLU, not ReLU6           in INT8 the scale is what clips
    a ReLU after every unit   unsigned activations use all INT8 levels on a CPU (export/int8/scales.py)
    stem 3x3, step 1 x 2      frames overlap by 75 % (wide) and 92 % (f0), so neighbours are nearly equal
"""

from typing import Any

import torch
from torch import Tensor, nn

from train.networks.blocks import GATES, UNSTRIDED, Gate, Stride, TemporalLayers
from train.networks.heads import AngleLinear, Head
from train.networks.senet import StagedNetwork, scaled, staged

STEM_WIDTH = 16
STEM_STRIDE = (1, 2)  # bands, frames; at least
STAGE_WIDTHS = (16, 32, 64, 128)  # half of ECANet's; all multiples of 8, which INT8 kernels like
UNITS = (2, 2, 3, 2)
EXPANSION = 3


class InvertedUnit(nn.Module):
    """relu(gate(1x1(depthwise 3x3(1x1(x)))) + x); no skip where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, time: TemporalLayers, gate: Gate = GATES["eca"]) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            time.convolution(wide, wide, 3, stride, groups=wide),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.gate = gate(outputs, time.after(stride))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gate(self.body(x))
        return torch.relu(y + x if self.residual else y)


def ecamobile(
    width: float = 1.0,
    dropout: float = 0.0,
    head: type[Head] = AngleLinear,
    stem_stride: Stride = UNSTRIDED,
    **form: Any,
) -> StagedNetwork:
    """Build the light network; `width` scales channels; `form` is that of `staged`."""
    stem, *widths = (scaled(channels, width) for channels in (STEM_WIDTH, *STAGE_WIDTHS))
    stride = max(STEM_STRIDE[0], stem_stride[0]), max(STEM_STRIDE[1], stem_stride[1])
    return staged(stem, InvertedUnit, widths, UNITS, dropout, head, stem_stride=stride, **form)
