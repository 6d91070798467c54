"""From the feature cache to batches: which clips, which 600 frames of them, in which order.

Everything random is drawn from (seed, epoch) before an epoch begins, so batches are the same for any number of
reading processes, and a resumed run needs no generator's state to see exactly what it would have seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train.cache import FeatureCache


@dataclass(frozen=True)
class Batch:
    """What one step sees."""

    features: Tensor  # (batch, 1, bands, 600) float16
    target: Tensor  # (batch,) int64: 1 bona fide, 0 spoof, -1 unlabelled
    index: Tensor  # (batch,) int64: place in the cache

    def pin_memory(self) -> "Batch":
        return Batch(self.features.pin_memory(), self.target.pin_memory(), self.index.pin_memory())


def training_plan(
    cache: FeatureCache, batch: int, seed: int, epoch: int, balanced: bool = False, rank: int = 0, world: int = 1
) -> NDArray[np.int64]:
    """One epoch: clip and first frame of every place in every batch, (batches, batch, 2), in random order.

    A last incomplete batch is left for another epoch's order.
    `batch` counts over all processes: each takes its own columns of the same plan.
    """
    rng = np.random.default_rng([seed, epoch])
    labels, lengths, width = cache.labels, cache.lengths, cache.frontend.width
    order = rng.permutation(len(cache))
    if balanced:
        # Half from each class; the rarer one is drawn again and again, in a fresh order each time round.
        half = len(cache) // 2
        drawn = [_drawn(np.flatnonzero(labels == kind), half, rng) for kind in (0, 1)]
        order = np.stack(drawn, axis=1).ravel()
    batch = min(batch, len(order))
    order = order[: len(order) // batch * batch]
    room = np.where(lengths > width, lengths - width + 1, lengths)[order]  # a short clip begins its repetition anywhere
    starts = (rng.random(len(order)) * room).astype(np.int64)
    crops = np.stack([order, starts], axis=1).reshape(-1, batch, 2)
    return crops[:, rank::world]


def _drawn(clips: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = -(-count // len(clips))
    return np.concatenate([rng.permutation(clips) for _ in range(rounds)])[:count]


def scoring_plan(
    cache: FeatureCache, batch: int, mean: bool = False, rank: int = 0, world: int = 1
) -> list[NDArray[np.int64]]:
    """The first window of every clip, or windows that overlap by half to its end; processes take turns."""
    starts = [cache.starts(clip, mean) for clip in range(len(cache))]
    clips = np.repeat(np.arange(len(cache)), [len(part) for part in starts])
    mine = np.stack([clips, np.concatenate(starts)], axis=1)[rank::world]
    return [mine[first : first + batch] for first in range(0, len(mine), batch)]


class Windows(Dataset[Batch]):
    """A whole batch at a time: a list of (clip, first frame) -> Batch."""

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache
        self.labels = cache.labels

    def __getitem__(self, crops: NDArray[np.int64]) -> Batch:
        frontend = self.cache.frontend
        rows = np.empty((len(crops), frontend.width, frontend.bands), np.float16)
        for row, (clip, start) in zip(rows, crops, strict=True):
            row[:] = self.cache.window(clip, start)
        features = torch.from_numpy(rows).transpose(1, 2)[:, None]  # (batch, 1, bands, width)
        index = torch.from_numpy(crops[:, 0].copy())
        return Batch(features, torch.from_numpy(self.labels[crops[:, 0]]), index)


def batches(
    cache: FeatureCache, plan: list[NDArray[np.int64]], workers: int, device: torch.device
) -> DataLoader[Batch]:
    """The plan's batches, read ahead by `workers` processes, in pinned memory where a GPU waits for them."""
    return DataLoader(
        Windows(cache),
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
        multiprocessing_context="spawn" if workers else None,
    )
