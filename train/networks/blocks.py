"""What SENet and ECANet are made of: a residual unit of convolutions, and a gate that weighs its channels.

Shapes are (batch, channels, bands, frames) throughout; a stage's first unit halves bands and frames (rounded up).

What looks along time, kernels of size 3 and the mean behind a gate, comes from a `TemporalLayers`: here it sees past and future
alike, and the whole window; train.networks.streaming has the one that looks back only. A gate weighs a whole window by
one mean a channel, (batch, channels, 1, 1), or every frame by its own, (batch, channels, 1, frames).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SE_REDUCTION = 16  # hidden width of the squeeze-and-excitation gate is channels / 16 (Hu et al. 2018)
ECA_GAMMA, ECA_B = 2, 1  # kernel size |log2(channels) / gamma + b / gamma|, made odd (Wang et al. 2020, equation 12)

Gate = Callable[..., nn.Module]  # channels, and for those that look along time a TemporalLayers


class TemporalLayers:
    """How a network looks along time: a window as a whole."""

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """A square kernel that keeps the shape, but for its stride."""
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)

    def stem(self, outputs: int, kernel: int, stride: tuple[int, int]) -> nn.Conv2d:
        """The same on features, with a stride of its own along bands and frames."""
        return nn.Conv2d(1, outputs, kernel, stride, kernel // 2, bias=False)

    def mean(self, channels: int) -> nn.Module:
        """What a gate looks at."""
        return nn.AdaptiveAvgPool2d(1)

    def after(self, stride: int) -> "TemporalLayers":
        """The same behind a layer of that stride."""
        return self


SYMMETRIC = TemporalLayers()


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): two small layers look at the channels' means and weigh them."""

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
        kernel = self.mix.weight[..., None]
        weights = functional.conv2d(means, kernel, padding=(kernel.shape[2] // 2, 0)).transpose(1, 2)
        return x * torch.sigmoid(weights)


GATES: dict[str, Gate] = {"se": SqueezeExcitation, "eca": EfficientChannelAttention}


class ResidualUnit(nn.Module):
    """relu(gate(convolutions(x)) + shortcut(x)); kernels (3, 3) for 9-34 layers, (1, 3, 1) for 50.

    All convolutions of a unit have the unit's output width, in the 50-layer networks too: the paper's table names one
    width a stage and no expansion. The stride sits on the first kernel of size 3; where shape or width changes, the
    shortcut is a 1x1 convolution with batch norm (He et al. 2016, option B).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        kernels: tuple[int, ...],
        gate: Gate,
        time: TemporalLayers = SYMMETRIC,
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
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.gate(self.body(x)) + self.shortcut(x))


def residual_stage(
    inputs: int,
    outputs: int,
    units: int,
    stride: int,
    kernels: tuple[int, ...],
    gate: Gate,
    time: TemporalLayers = SYMMETRIC,
) -> nn.Sequential:
    """`units` residual units; only the first changes shape."""
    first, after = ResidualUnit(inputs, outputs, stride, kernels, gate, time), time.after(stride)
    return nn.Sequential(first, *(ResidualUnit(outputs, outputs, 1, kernels, gate, after) for _ in range(units - 1)))
