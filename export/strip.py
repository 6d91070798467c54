"""Strip a checkpoint to the network that ships: one exit, no auxiliary heads, batch norms folded, the level inside.

    network = strip(read_checkpoint("runs/model/model.pt"))       # raw log power (batch, 1, bands, 600) -> (batch, 2)

    training   features -> level -> conv, batch norm, relu ... -> mean -> dropout -> x · w / |w|   + helpers
    shipped    features -> level -> conv with bias,   relu ... -> mean ------------> linear map

Losses on cosines leave a division by the embedding's length in front of the map: a few float operations. The
front-end's level is part of the network, so a runtime feeds its ring buffer of raw log power without a copy.

A streaming network keeps its stateful layers (export.model_graph makes their states inputs and outputs). Its linear
map comes before the mean, with a third row that is always 1: the state of a map frame is three numbers.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.streaming_ops import Product, Rows, RunningRows, StepLevel, StepMean, step_gate
from runtime.audio.features import DECADES, LN10, LOUDEST, WINDOW_FRAMES, Level
from runtime.support.errors import ShrikeError
from train.checkpoint import Checkpoint
from train.networks.blocks import EfficientChannelAttention, SqueezeExcitation
from train.networks.encoder import EncoderNetwork, Exit, statistics
from train.networks.heads import SHORTEST, Head
from train.networks.res2net import SCALE, ChannelGroups
from train.networks.streaming import RunningMean, StreamingNetwork


class WindowMax(nn.Module):
    """The level window-max. Written without Add and Mul, which export.int8.quantize would compute in INT8."""

    def forward(self, features: Tensor) -> Tensor:
        relative = (features - features.amax(dim=(2, 3), keepdim=True)) / (4 * LN10) - -LOUDEST
        return relative.clamp_min(LOUDEST - DECADES / 4)


class Deployed(nn.Module):
    """The windowed network: (batch, 1, bands, frames) raw log power -> (batch, 2) logits (spoof, bona fide)."""

    def __init__(self, level: Level, stem: nn.Module, stages: list[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        # One channel: its mean over bands and frames is the window's level. Pooling exports as GlobalAveragePool.
        self.level = nn.AdaptiveAvgPool2d(1) if level == "window-mean" else None
        self.relative = WindowMax() if level == "window-max" else nn.Identity()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(self.relative(features) if self.level is None else features - self.level(features))
        x = self.stages(x)
        return self.head(self.pool(x).flatten(1))


class DeployedEncoder(nn.Module):
    """An encoder up to one exit: (batch, 1, bands, frames) raw log power -> (batch, 2) logits (spoof, bona fide)."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], exit: Exit, head: nn.Linear) -> None:
        super().__init__()
        self.relative, self.stem, self.stages = WindowMax(), stem, nn.ModuleList(stages)
        self.head = linear_exit(exit, head)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(self.relative(features))
        found = [statistics(x)]
        for stage in self.stages:
            x = stage(x)
            found.append(statistics(x))
        logits: Tensor = self.head(torch.cat(found, dim=1))
        return logits


class Fused(nn.Module):
    """Windowed networks on the same features; their logits are averaged."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor) -> Tensor:
        first, *others = (member(features) for member in self.members)
        return sum(others, start=first) / len(self.members)


def linear_exit(exit: Exit, head: nn.Linear) -> nn.Module:
    """Fold batch norm, projection and classifier into one map; a classifier of cosines stays behind it."""
    norm, project = copy.deepcopy(exit.norm).double(), copy.deepcopy(exit.project).double()
    assert norm.running_var is not None and norm.running_mean is not None
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = project.weight * factor
        bias = project.bias + project.weight @ (norm.bias - factor * norm.running_mean)
        cosine = isinstance(head, DirectionLinear)
        if not cosine:
            weight, bias = head.weight.double() @ weight, head.weight.double() @ bias + head.bias.double()
    merged = nn.Linear(weight.shape[1], weight.shape[0])
    merged.load_state_dict({"weight": weight, "bias": bias})
    return nn.Sequential(merged, head) if cosine else merged


class DeployedStream(nn.Module):
    """The streaming network: new frames (batch, 1, bands, n) -> logits (batch, 2) after the last."""

    def __init__(self, level: Level, stem: nn.Module, stages: list[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.level = StepLevel() if level == "running-mean" else None
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.stride = max(layer.stride for layer in self.modules() if isinstance(layer, RunningRows))
        self.newest = StepMean(WINDOW_FRAMES // self.stride)
        self.rows = Rows()
        self.head = head if isinstance(head, DirectionLinear) else frame_logits(head)

    def forward(self, features: Tensor) -> Tensor:
        x = features if self.level is None else self.level(features)
        x = self.stages(self.stem(x))
        x = self.rows(x)  # (batch, map frames, width)
        if isinstance(self.head, DirectionLinear):
            x = x.transpose(1, 2)
            return self.head(self.newest(torch.cat([x, x[:, :1] * 0 + 1], dim=1)))
        return self.newest(self.head(x).transpose(1, 2))


def frame_logits(head: nn.Linear) -> Product:
    """Turn the head into a map of every map frame, with a constant: (batch, frames, width) -> (batch, frames, 3)."""
    one = head.weight.new_zeros(1, head.in_features)
    return Product(torch.cat([head.weight, one]).T, torch.cat([head.bias, torch.ones(1)]))


def strip(checkpoint: Checkpoint, exit: int | None = None) -> Deployed | DeployedEncoder | DeployedStream:
    """Return the network of one exit, in eval mode; by default the last one, the whole network."""
    model = checkpoint.distillation_model()
    network, shallow = model.deployed()
    last = len(network.stages)
    exit = last if exit is None else exit
    if not 1 <= exit <= last:
        raise ShrikeError(f"--exit {exit}: expected 1 to {last}; {last} is the whole network")
    if exit == last:
        head: Head = network.head
    elif not shallow:
        raise ShrikeError(
            f"--exit {exit}: this model was trained with --distill off, which has no shallow exits; "
            "leave --exit out, or train with --distill on"
        )
    else:
        classifier = shallow[exit - 1]
        assert isinstance(classifier, Head)
        head = classifier
    if isinstance(network, EncoderNetwork):
        chosen = network.exits[exit - 1]
        assert isinstance(chosen, Exit)
        encoder = DeployedEncoder(network.stem, list(network.stages[:exit]), chosen, linear(head))
        return encoder.eval().requires_grad_(False)
    level = checkpoint.settings.frontend.level
    kind = DeployedStream if isinstance(network, StreamingNetwork) else Deployed
    deployed = kind(level, fold(network.stem), [fold(stage) for stage in network.stages[:exit]], linear(head))
    left = [type(layer).__name__ for layer in deployed.modules() if isinstance(layer, nn.BatchNorm2d | nn.Dropout)]
    assert not left, f"{left} would ship: fold() handles only batch norms behind a convolution in an nn.Sequential"
    return deployed.eval().requires_grad_(False)


class DirectionLinear(nn.Linear):
    """A linear map of the direction of x, as losses on cosines train it."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x * x @ torch.full((self.in_features, 1), 1 / self.in_features)  # a product: see streaming_ops
        return super().forward(x / mean.add(SHORTEST).sqrt())


def linear(head: Head) -> nn.Linear:
    """Compute a head's matrix once; a missing bias is zero: ONNX exports a map with a bias as Gemm."""
    with torch.no_grad():
        weight, bias = copy.deepcopy(head).double().matrix()
    classes, width = weight.shape
    plain = DirectionLinear(width, classes) if head.cosine else nn.Linear(width, classes)
    plain.load_state_dict({"weight": weight, "bias": torch.zeros(classes) if bias is None else bias})
    return plain


class ChannelMixing(nn.Module):
    """The gate of EfficientChannelAttention with fixed axes.

    The same numbers from two Transposes instead of a Shape, a Slice, a Concat and a Reshape in the graph.
    """

    def __init__(self, gate: EfficientChannelAttention) -> None:
        super().__init__()
        (kernel,) = gate.mix.kernel_size
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Conv2d(1, 1, (kernel, 1), padding=(kernel // 2, 0), bias=False)
        self.mix.load_state_dict({"weight": gate.mix.weight[..., None]})

    def forward(self, x: Tensor) -> Tensor:
        means = self.pool(x).transpose(1, 2)  # (batch, 1, channels, 1)
        return x * torch.sigmoid(self.mix(means).transpose(1, 2))


class SeparateGroups(nn.Module):
    """Res2Net's groups of channels, from one convolution each.

    The same numbers without a Split, whose parts would begin in the middle of an INT8 kernel's channel vector.
    """

    def __init__(self, groups: ChannelGroups) -> None:
        super().__init__()
        folded = fold(groups.body)
        assert isinstance(folded, nn.Sequential) and isinstance(folded[0], nn.Conv2d)
        whole = folded[0]
        assert whole.bias is not None
        self.bodies = nn.ModuleList()
        for weight, bias in zip(whole.weight.chunk(SCALE), whole.bias.chunk(SCALE), strict=True):
            part = nn.Conv2d(whole.in_channels, len(bias), 1)
            part.load_state_dict({"weight": weight, "bias": bias})
            self.bodies.append(nn.Sequential(part, nn.ReLU()))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(body(x) for body in self.bodies)


def fold(module: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it; replace gates and groups by their export forms."""
    if isinstance(module, SqueezeExcitation | EfficientChannelAttention) and isinstance(module.pool, RunningMean):
        return step_gate(module)
    if isinstance(module, EfficientChannelAttention):
        return ChannelMixing(module)
    if isinstance(module, ChannelGroups):
        return SeparateGroups(module)
    for name, child in module.named_children():
        setattr(module, name, fold(child))
    if isinstance(module, nn.Sequential):
        layers: list[nn.Module] = []
        for layer in module:
            if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
                # In float64: the product of weight and norm is rounded once.
                layers[-1] = fuse_conv_bn_eval(layers[-1].eval().double(), layer.eval().double()).float()
            else:
                layers.append(layer)
        module = nn.Sequential(*layers)
    return module
