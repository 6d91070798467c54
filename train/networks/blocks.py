"""Building blocks of SENet and ECANet: a residual unit of convolutions, and a gate that weighs its channels.

Shapes are (batch, channels, bands, frames) throughout; a stage's first unit halves bands and frames (rounded up).

Layers that extend over time, kernels of size 3 and the mean before a gate, come from a `TemporalLayers`: symmetric
here, causal in train.networks.streaming. A gate weighs a window by one mean per channel, (batch, channels, 1, 1); in a
causal network it weighs each frame by a running mean, (batch, channels, 1, frames).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SE_REDUCTION = 16  # hidden width of the squeeze-and-excitation gate is channels / 16 (Hu et al. 2018)
ECA_GAMMA, ECA_B = 2, 1  # kernel size |log2(channels) / gamma + b / gamma|, made odd (Wang et al. 2020, equation 12)

Stride = tuple[int, int]  # along bands and frames
UNSTRIDED: Stride = (1, 1)

Gate = Callable[..., nn.Module]  # called with the channels and, unless it ignores time, a TemporalLayers


class TemporalLayers:
    """Makes the layers that extend over time: symmetric ones, for windows."""

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """Return a square kernel with padding, without bias."""
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)

    def stem(self, outputs: int, stride: Stride) -> nn.Conv2d:
        """Return the first convolution: 3x3 if it strides, 1x1 as published if not."""
        kernel = 1 if stride == UNSTRIDED else 3
        return nn.Conv2d(1, outputs, kernel, stride, kernel // 2, bias=False)

    def mean(self, channels: int) -> nn.Module:
        """Return the mean before a gate."""
        return nn.AdaptiveAvgPool2d(1)

    def after(self, stride: int) -> "TemporalLayers":
        """Return the factory for layers after one of that stride."""
        return self


SYMMETRIC = TemporalLayers()


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): two small layers turn the channels' means into weights."""

    def __init__(self, channels: int, time: TemporalLayers = SYMMETRIC) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.pool = time.mean(channels)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(torch.relu(self.squeeze(self.pool(x))))  # (batch, channels, 1, 1 or frames)
        return x * torch.sigmoid(weights)


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020): one short convolution along the channels instead of SE's two layers."""

    def __init__(self, channels: int, time: TemporalLayers = SYMMETRIC) -> None:
        super().__init__()
        kernel = int(abs((math.log2(channels) + ECA_B) / ECA_GAMMA))
        kernel += 1 - kernel % 2
        self.pool = time.mean(channels)
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = self.pool(x).transpose(1, 2)  # (batch, 1, channels, 1 or frames)
        # Through one dimension: gradients then have the weight's strides, which torchrun's buckets expect.
        kernel = self.mix.weight.flatten()[None, None, :, None]
        weights = functional.conv2d(means, kernel, padding=(kernel.shape[2] // 2, 0)).transpose(1, 2)
        return x * torch.sigmoid(weights)


GATES: dict[str, Gate] = {"se": SqueezeExcitation, "eca": EfficientChannelAttention}


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the identity, or a 1x1 convolution with batch norm if the shape changes (He et al. 2016, option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResidualUnit(nn.Module):
    """relu(gate(convolutions(x)) + shortcut(x)); kernels (3, 3) for 9-34 layers, (1, 3, 1) for 50.

    All convolutions of a unit have the unit's output width, in the 50-layer networks too: the paper's table names one
    width a stage and no expansion. The stride sits on the first kernel of size 3; where shape or width changes, the
    shortcut is a convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, time: TemporalLayers, kernels: tuple[int, ...], gate: Gate
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, spatial = inputs, kernels.index(3)
        for number, kernel in enumerate(kernels):
            step = stride if number == spatial else 1
            layers += [time.convolution(width, outputs, kernel, step), nn.BatchNorm2d(outputs)]
            if number < len(kernels) - 1:
                layers.append(nn.ReLU(inplace=True))
            width = outputs
        self.body = nn.Sequential(*layers)
        self.gate = gate(outputs, time.after(stride))
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.gate(self.body(x)) + self.shortcut(x))
