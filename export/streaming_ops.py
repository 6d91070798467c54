"""Means over bands and gates in a step's graph: the same numbers from fewer and cheaper nodes.

    rows = Rows()(x)                    # (batch, channels, bands, n) -> (batch, n, channels): means over bands
    gate = step_gate(gate)              # SqueezeExcitation or EfficientChannelAttention with a RunningMean

At 16 frames a step the number of nodes decides the time. Channels are last, as in INT8 kernels on CPUs, and averages
are products with constants: ONNX Runtime's ReduceMean over bands takes 38 us, a product with ones 3. ReduceMean and
ReduceSum also add in an order that depends on the batch; products give a stream the same bits in any batch.

    x (batch, channels, bands, n) -- mean over bands --> (batch, n, channels) --.     .-- the newest row: the next state
    state (batch, channels) --------------------------> (batch, 1, channels) --'     |
                                                           [n + 1 rows] -- D @ rows -'- @ W ... sigmoid --> weighs x
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.networks.blocks import EfficientChannelAttention, SqueezeExcitation
from train.networks.streaming import BLOCK, RunningLevel, RunningMean, SlidingMean, StatefulModule


class Rows(nn.Module):
    """(batch, channels, bands, n) -> (batch, n, channels): means over bands."""

    def forward(self, x: Tensor) -> Tensor:
        _, channels, bands, frames = (int(size) for size in x.shape)  # fixed in a graph, but for the batch
        last = x.permute(0, 2, 3, 1).reshape(-1, bands, frames * channels)
        share = torch.tensor([[1 / bands] * bands])  # a constant of the graph
        return (share @ last).reshape(-1, frames, channels)


class StepLevel(RunningLevel):
    """RunningLevel whose mean over bands is a product."""

    def band_mean(self, x: Tensor) -> Tensor:
        return torch.full((1, int(x.shape[2])), 1 / int(x.shape[2])) @ x


class StepMean(SlidingMean):
    """SlidingMean whose sum over frames is a product."""

    def total(self, ring: Tensor) -> Tensor:
        return (ring @ torch.ones(self.slots, 1)).squeeze(2)


class RunningRows(StatefulModule):
    """RunningMean with channels last: (batch, channels, bands, n) -> (batch, n, channels). State: (batch, channels)."""

    weights: Tensor

    def __init__(self, mean: RunningMean) -> None:
        super().__init__()
        self.stride = mean.stride
        self.rows = Rows()
        self.register_buffer("weights", mean.weights.T.contiguous())
        self.register_buffer("start", mean.start.detach().clone())

    def initial_state(self, x: Tensor) -> Tensor:
        assert isinstance(self.start, Tensor)
        return self.start.expand(len(x), -1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x)
        before, averages = self.initial_state(x) if self.state is None else self.state, list[Tensor]()
        whole = int(rows.shape[1]) <= BLOCK
        for block in [rows] if whole else rows.split(BLOCK, dim=1):
            count = int(block.shape[1])
            averages.append(self.weights[:count, : count + 1] @ torch.cat([before[:, None], block], dim=1))
            before = averages[-1][:, -1]
        if self.state is not None:
            self.next_state = before
        return averages[0] if whole else torch.cat(averages, dim=1)


class StepGate(nn.Module):
    """Weighs the channels of x by a function of their running averages."""

    def __init__(self, mean: RunningMean, weigh: nn.Module) -> None:
        super().__init__()
        self.pool, self.weigh = RunningRows(mean), weigh

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.weigh(self.pool(x)))  # (batch, n, channels)
        return x * weights[:, None].permute(0, 3, 1, 2)


class Product(nn.Module):
    """Rows (batch, n, channels) times a constant matrix, plus an optional bias.

    The bias has three dimensions: with one, ONNX Runtime would make a Gemm with two Reshapes around it.
    """

    matrix: Tensor
    bias: Tensor | None

    def __init__(self, matrix: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix.detach().clone().contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().clone()[None, None])

    def forward(self, rows: Tensor) -> Tensor:
        product = rows @ self.matrix
        return product if self.bias is None else product + self.bias


def step_gate(gate: SqueezeExcitation | EfficientChannelAttention) -> StepGate:
    """Convert a gate with a running mean into its step form."""
    assert isinstance(gate.pool, RunningMean)
    if isinstance(gate, SqueezeExcitation):
        squeeze = Product(gate.squeeze.weight[:, :, 0, 0].T, gate.squeeze.bias)
        excite = Product(gate.excite.weight[:, :, 0, 0].T, gate.excite.bias)
        return StepGate(gate.pool, nn.Sequential(squeeze, nn.ReLU(), excite))
    return StepGate(gate.pool, Product(banded(gate.mix.weight[0, 0], len(gate.pool.start))))


def banded(kernel: Tensor, channels: int) -> Tensor:
    """Write a zero-padded convolution along channels as a matrix (channels, channels), for products from the right."""
    impulses = torch.eye(channels)[:, None]
    return functional.conv1d(impulses, kernel.detach()[None, None], padding=len(kernel) // 2)[:, 0]
