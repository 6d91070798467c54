"""A speech encoder cut short: Whisper's first layers, an exit with statistics pooling after each (network `encoder`).

    (batch, 1, bands, 500) --2 convolutions--> 250 x width --layer 1--> 250 x width --layer 2--> ...
                                                 |               |               |
    exit k:  mean and deviation over time of the outputs of 0..k --batch norm--> --linear--> 64 --classifier--> 2

The lower layers of speech encoders separate real from fake best, and the rest can be cut away (Kawa et al., arXiv
2306.01428; El Kheir et al., arXiv 2502.03559). Here the exits are the stages of self-distillation: the deepest teaches
the shallow ones, the exporter keeps one exit and strips the layers beyond it.

Weights come from Whisper (train.networks.whisper) or are random. `tuned` layers at the end train, with the exits; what
lies before them is frozen. The input is cut short, not padded to 30 s: positions are those of the first 5 s.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.audio.features import MEL_BANDS
from train.networks.heads import Head
from train.networks.senet import StagedNetwork

SIZES = {"tiny": (384, 6), "base": (512, 8), "small": (768, 12)}  # width, attention heads
EMBEDDING = 64  # values of an exit's embedding
POSITIONS = 1500  # of Whisper, 30 s at 20 ms
LONGEST = 10_000.0  # longest period of the sinusoids, in positions over 2 pi
LEAST_VARIANCE = 1e-5  # before the root


class Stem(nn.Module):
    """Two convolutions, one with stride 2, and positions: (batch, 1, bands, frames) -> (batch, frames / 2, width)."""

    positions: Tensor

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(bands, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        half = width // 2
        rates = torch.exp(-math.log(LONGEST) / (half - 1) * torch.arange(half))
        angles = torch.arange(POSITIONS)[:, None] * rates
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        x = functional.gelu(self.first(features.squeeze(1)))
        x = functional.gelu(self.second(x)).transpose(1, 2)
        return x + self.positions[: int(x.shape[1])]


class Attention(nn.Module):
    """Self-attention with several heads; the key has no bias, as Whisper's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, heads, time, width / heads)."""
        # Sizes as numbers, the batch inferred: they export as one Reshape, not as arithmetic on shapes.
        return x.reshape(-1, int(x.shape[1]), self.heads, int(x.shape[2]) // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        weights = torch.softmax(query * self.scale @ key.transpose(2, 3), dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(-1, int(x.shape[1]), int(x.shape[2])))


class EncoderLayer(nn.Module):
    """A transformer layer with the norms in front: (batch, time, width) -> the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.contract(functional.gelu(self.expand(self.norm(x))))


class Exit(nn.Module):
    """The embedding of an exit: (batch, statistics) -> (batch, 64)."""

    def __init__(self, statistics: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(statistics)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(statistics, EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.project(self.dropout(self.norm(x)))
        return embedding


def statistics(x: Tensor) -> Tensor:
    """Mean and standard deviation over time: (batch, time, width) -> (batch, 2 width), in float32."""
    x = x.float()
    mean = x.mean(dim=1)
    variance = (x - mean[:, None]).square().mean(dim=1)
    return torch.cat([mean, (variance + LEAST_VARIANCE).sqrt()], dim=1)


class EncoderNetwork(StagedNetwork):
    """Stem and layers as stages, an exit for each."""

    def __init__(
        self, size: str, layers: int, dropout: float, head: type[Head], tuned: int = 0, bands: int = MEL_BANDS
    ) -> None:
        width, heads = SIZES[size]
        stages: list[nn.Module] = [EncoderLayer(width, heads) for _ in range(layers)]
        super().__init__(Stem(bands, width), stages, (EMBEDDING,) * layers, 0.0, head)
        self.exits = nn.ModuleList(Exit(2 * width * (number + 2), dropout) for number in range(layers))
        self.frozen = layers - tuned  # the first stages, and the stem with them
        if self.frozen >= 0:
            self.stem.requires_grad_(False)
        for stage in self.stages[: max(0, self.frozen)]:
            stage.requires_grad_(False)

    def pooled_statistics(self, features: Tensor) -> list[Tensor]:
        """Return the statistics after the stem and after each layer, (batch, 2 width) each."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen < 0):
            x = self.stem(features)
        found = [statistics(x)]
        for number, stage in enumerate(self.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= self.frozen):
                x = stage(x)
            found.append(statistics(x))
        return found

    def stage_outputs(self, features: Tensor, energy: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Return the embedding of every exit; there are no maps of energy over bands here."""
        found = self.pooled_statistics(features)
        return [exit(torch.cat(found[: number + 2], dim=1)) for number, exit in enumerate(self.exits)], []

    def forward(self, features: Tensor) -> Tensor:
        """(batch, 1, bands, frames) -> logits (batch, 2): spoof, bona fide."""
        return self.head(self.exits[-1](torch.cat(self.pooled_statistics(features), dim=1)))
