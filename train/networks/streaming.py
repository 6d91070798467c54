r"""Streaming networks: the same layers, causal and stateful, so that a stream costs its new frames only.

    network = build("senet9", gate_seconds=1.0)
    network(features)                                # a whole clip: logits (batch, 2)
    state = network.reset_state(batch, bands)        # {name: tensor}, always in the same order
    logits, state = network.step(features, state)    # 8, 16, 24 ... new frames: (batch, 2) after them

Steps of any size, multiples of `network.stride`, give the same logits as the whole clip.

Convolutions of size 3 in time. A symmetric one needs one future frame; with stride 2 that frame has already arrived
when an output is due, so stride 2 needs no change:

    stride 1    input   . . t-2 t-1  t               stride 2    input   . . 2t-1  2t  2t+1
                         \___\___\___|                                    \_____\____|
                output               t               output                          t
    state       the last two input frames            state       the last one

Gates weigh frame t by a running average, a(t) = d a(t-1) + (1 - d) m(t), where m is a channel's mean over bands and d
follows from a time constant; a(-1) is learned. The pooled output is the mean over the newest 600 frames. The receptive
field of a SENet9's logits after frame t:

    pooling                                [= 75 map frames of 8 frames each, equal weights =]
    kernels                          [=47=]      each map frame covers 47 frames, up to its last  [=47=]
    gates      ~~~~~~~~ decaying with --gate-seconds before each of them ~~~~~~~~~~~~~~~~~~~~~~~~~~~
    frames     0                        t-638  t-600                                                   t

All averages are matrix products with a constant, in float32 whatever the precision of the rest.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.audio.features import HOP, LEVEL_FRAMES, RATE, WINDOW_FRAMES
from runtime.audio.score_times import STEP
from train.networks.blocks import UNSTRIDED, Stride, TemporalLayers
from train.networks.heads import CLASSES, Head
from train.networks.senet import StagedNetwork

GATE_SECONDS = 1.0  # s, time constant of the gates' averages: five syllables, and the delay of the first score
BLOCK = 128  # map frames averaged by one matrix product: its matrix has 66 KB
FIRST_FRAMES = 112  # frames before the first loss in training: runtime.audio.score_times.first of f0, 1.0 s of sound

State = dict[str, Tensor]  # by layer name, in the order of the layers; all (batch, ...)


# ---- stateful layers -------------------------------------------------------------------------------------------------


class StatefulModule(nn.Module):
    """A layer with a state. Without one, `state` is None and the input is the beginning of a clip."""

    state: Tensor | None = None  # from the previous step
    next_state: Tensor | None = None  # for the next step

    def initial_state(self, x: Tensor) -> Tensor:
        """Return the state before the first step, for an input like x."""
        raise NotImplementedError


def stateful_modules(module: nn.Module) -> dict[str, StatefulModule]:
    """Return all stateful layers of a module, by name, in their order."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, StatefulModule)}


@contextmanager
def stepping(module: nn.Module, state: State) -> Iterator[State]:
    """Run the module from `state` inside the block; afterwards the yielded dict holds the next state."""
    layers, new = stateful_modules(module), State()
    assert list(layers) == list(state), "a state of another network"
    for name, layer in layers.items():
        layer.state, layer.next_state = state[name], None
    try:
        yield new
        for name, layer in layers.items():
            assert layer.next_state is not None, f"{name} was not run"
            new[name] = layer.next_state
    finally:
        for layer in layers.values():
            layer.state = layer.next_state = None


@torch.no_grad()
def initial_states(module: nn.Module, features: Tensor) -> State:
    """Return the state before a first step like `features`, which is run to find the shapes of all layers."""
    layers, state = stateful_modules(module), State()
    names = {layer: name for name, layer in layers.items()}

    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(layer, StatefulModule)
        state[names[layer]] = layer.initial_state(inputs[0]).clone()

    hooks = [layer.register_forward_pre_hook(note) for layer in names]
    training = module.training
    try:
        module.eval()(features)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return {name: state[name] for name in layers}


class CausalConvolution(StatefulModule, nn.Conv2d):
    """A kernel that ends, in time, with the newest frame; bands are padded symmetrically.

    State: the last input frames, (batch, inputs, bands, size - stride), initially zero.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int], groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, (kernel // 2, 0), groups=groups, bias=False)
        self.reach = kernel - stride[1]

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:3], self.reach)

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None:
            x = torch.cat([self.state, x], dim=3)
            self.next_state = x[..., -self.reach :]
            return super().forward(x)
        bands, size, stride = self.padding[0], self.kernel_size[1], self.stride[1]
        if self.reach == size // 2 and x.shape[3] % stride == 0:
            # The convolution's own padding saves a copy; its zeros after the last frame are never reached.
            return functional.conv2d(x, self.weight, self.bias, self.stride, (int(bands), self.reach), 1, self.groups)
        return super().forward(functional.pad(x, (self.reach, 0)))


class ExponentialMean(StatefulModule):
    """a(t) = d a(t-1) + (1 - d) x(t) over the last axis; d is exp(-1 / `frames`)."""

    weights: Tensor

    def __init__(self, frames: float) -> None:
        super().__init__()
        self.decay = math.exp(-1 / frames)
        # Column t: weights in a(t) of the average before the block, and of the block's frames.
        age = torch.arange(BLOCK, dtype=torch.float64) - torch.arange(BLOCK, dtype=torch.float64)[:, None]
        inside = torch.where(age >= 0, (1 - self.decay) * self.decay ** age.clamp_min(0), 0.0)
        before = self.decay ** torch.arange(1, BLOCK + 1, dtype=torch.float64)
        self.register_buffer("weights", torch.cat([before[None], inside]).float(), persistent=False)

    def average(self, x: Tensor) -> Tensor:
        """Average (batch, ..., frames), same shape. State: the last average, (batch, ..., 1)."""
        before = self.initial_state(x) if self.state is None else self.state
        averages: list[Tensor] = []
        with torch.autocast(x.device.type, enabled=False):
            whole = int(x.shape[-1]) <= BLOCK  # int: in a traced graph the number of frames is fixed
            for block in [x] if whole else x.split(BLOCK, dim=-1):
                count = int(block.shape[-1])
                averages.append(torch.cat([before, block], dim=-1) @ self.weights[: count + 1, :count])
                before = averages[-1][..., -1:]
        if self.state is not None:
            self.next_state = before
        return averages[0] if whole else torch.cat(averages, dim=-1)


class RunningMean(ExponentialMean):
    """The mean before a gate: (batch, channels, bands, frames) -> (batch, channels, 1, frames).

    `start`, the average before the first frame, is learned from zero, the mean after a fresh batch norm.
    """

    def __init__(self, channels: int, seconds: float, stride: int) -> None:
        super().__init__(seconds * RATE / HOP / stride)
        self.stride = stride  # frames of the features per frame here
        self.start = nn.Parameter(torch.zeros(channels))

    def initial_state(self, x: Tensor) -> Tensor:
        return self.start[None, :, None, None].expand(len(x), -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=2, keepdim=True)
        return self.average(mean if mean.dtype == torch.float32 else mean.float())


class RunningLevel(ExponentialMean):
    """Raw log power (batch, 1, bands, frames) minus the running mean of its mean over bands.

    State: the weighted sum of frames, and the sum of weights, (batch, 1, 2, 1). Their ratio is an unbiased mean from
    the first frame on, so a gain on the sound, a constant in both, cancels.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__(LEVEL_FRAMES)
        self.register_buffer("mean", torch.tensor([1.0, 0.0]).view(1, 1, 2, 1), persistent=False)
        self.register_buffer("weight", torch.tensor([0.0, 1.0]).view(1, 1, 2, 1), persistent=False)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Rows are the frame's mean and 1: two operations in a graph, where a Pad takes eight.
        sums = self.average(self.band_mean(x) * self.mean + self.weight)
        return x - sums[:, :, :1] / sums[:, :, 1:]

    def band_mean(self, x: Tensor) -> Tensor:
        return x.mean(dim=2, keepdim=True)


class SlidingMean(StatefulModule):
    """The mean over the newest `slots` frames, or over all so far: (batch, rows + 1, frames) -> (batch, rows).

    The last input row is ones; it counts the frames. State: the newest frames, (batch, rows + 1, slots), oldest first.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:2], self.slots)

    def forward(self, x: Tensor) -> Tensor:
        past = self.initial_state(x) if self.state is None else self.state
        ring = torch.cat([past, x], dim=2)[..., -self.slots :]
        if self.state is not None:
            self.next_state = ring
        sums = self.total(ring)
        return sums[:, :-1] / sums[:, -1:]

    def total(self, ring: Tensor) -> Tensor:
        return ring.sum(dim=2)


def sliding_means(x: Tensor, ends: list[int], slots: int) -> Tensor:
    """Compute SlidingMean after each of the frames `ends` (k,) of a whole clip: (batch, rows, frames) -> (.., k)."""
    index, after = torch.arange(x.shape[2], device=x.device)[:, None], torch.tensor(ends, device=x.device)
    inside = ((index < after) & (index >= after - slots)).float()
    with torch.autocast(x.device.type, enabled=False):
        return x.float() @ (inside / inside.sum(dim=0))


# ---- the network -----------------------------------------------------------------------------------------------------


class CausalLayers(TemporalLayers):
    """Makes causal layers with a state."""

    def __init__(self, gate_seconds: float = GATE_SECONDS, stride: int = 1) -> None:
        self.gate_seconds, self.stride = gate_seconds, stride

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        if kernel == 1:
            return super().convolution(inputs, outputs, kernel, stride, groups)
        return CausalConvolution(inputs, outputs, kernel, (stride, stride), groups)

    def stem(self, outputs: int, stride: Stride) -> nn.Conv2d:
        return super().stem(outputs, stride) if stride == UNSTRIDED else CausalConvolution(1, outputs, 3, stride)

    def mean(self, channels: int) -> nn.Module:
        return RunningMean(channels, self.gate_seconds, self.stride)

    def after(self, stride: int) -> "CausalLayers":
        return CausalLayers(self.gate_seconds, self.stride * stride)


class StreamingNetwork(StagedNetwork):
    """A staged network of causal layers, with a score after every step.

    A linear head maps every map frame to logits, of which the newest are averaged: equal to the map of the average,
    with a state of two rows instead of a whole width. A head on cosines needs the average first.
    """

    def __init__(
        self, stem: nn.Module, stages: list[nn.Module], widths: tuple[int, ...], dropout: float, head: type[Head]
    ) -> None:
        super().__init__(stem, stages, widths, dropout, head)
        self.stride = max(layer.stride for layer in self.modules() if isinstance(layer, RunningMean))
        self.newest = SlidingMean(WINDOW_FRAMES // self.stride)

    def steps(self, frames: int) -> list[int]:
        """Frame counts that are scored: every step from the first second on, or the end of a shorter clip."""
        return list(range(FIRST_FRAMES, frames + 1, STEP)) or [frames // self.stride * self.stride]

    def stage_outputs(self, features: Tensor, energy: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """As in StagedNetwork, but pooled after each of a clip's k steps: (batch k, width), a clip's steps together."""
        frames = features.shape[3] // self.stride * self.stride
        x = self.stem(features[..., :frames])
        ends = self.steps(frames)
        pooled, energies = [], []
        for stage in self.stages:
            x = stage(x)
            stride = frames // x.shape[3]
            means = sliding_means(x.mean(dim=2), [end // stride for end in ends], WINDOW_FRAMES // stride)
            pooled.append(self.dropout(means.transpose(1, 2).flatten(0, 1)))  # (batch, width, k) -> (batch k, width)
            if energy:
                energies.append(x.float().square().mean(dim=1))
        return pooled, energies

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (batch, 2) after new frames; frames beyond a multiple of the stride are left out."""
        left = int(features.shape[3]) % self.stride
        x = self.stem(features[..., :-left] if left else features)
        for stage in self.stages:
            x = stage(x)
        x = self.dropout(x.mean(dim=2))  # (batch, width, map frames)
        if self.head.cosine:
            return self.head(self.newest(torch.cat([x, x[:, :1] * 0 + 1], dim=1)))
        return self.newest(self.frame_logits(x))

    def frame_logits(self, x: Tensor) -> Tensor:
        """Map (batch, width, frames) to every frame's logits and a row of ones, (batch, 3, frames)."""
        weight, bias = self.head.matrix()
        weight = functional.pad(weight, (0, 0, 0, 1))
        bias = functional.pad(weight.new_zeros(CLASSES) if bias is None else bias, (0, 1), value=1.0)
        return functional.conv1d(x, weight[..., None], bias)

    def step(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """Return logits (batch, 2) after new frames (batch, 1, bands, n stride), and the next state."""
        assert features.shape[3] % self.stride == 0, f"{features.shape[3]} frames are no multiple of {self.stride}"
        with stepping(self, state) as new:
            logits = self(features)
        return logits, new

    def reset_state(self, batch: int, bands: int) -> State:
        """Return the initial state of `batch` streams."""
        like = next(self.parameters())
        return initial_states(self, like.new_zeros(batch, 1, bands, self.stride))
