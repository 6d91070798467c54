"""Batches from the cache: order of clips, crops of 600 frames, and augmentation of sound.

Order and crops are drawn from (seed, epoch) before an epoch begins, augmentation of a window from (seed, epoch, clip,
first frame). Batches are therefore equal for any number of worker processes, and a resumed run needs no random state.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runtime.audio.high_pass import HighPass
from train.augment.chain import Chain
from train.data.cache import FeatureCache, SoundCache

LEAD = 0.25  # s of sound before a window that are augmented with it, as context of rooms and codecs

Read = TypeVar("Read")


class Batch(NamedTuple):
    """Features of one training step."""

    features: Tensor  # (batch, 1, bands, 600) float16
    target: Tensor  # (batch,) int64: 1 bona fide, 0 spoof, -1 unlabelled
    clips: Tensor  # (batch,) int64: index of the clip in the cache


class SoundBatch(NamedTuple):
    """Sound of one training step, before the front-end."""

    sound: Tensor  # (batch, samples of a window) float32, high-passed; short clips are padded with zeros
    order: Tensor  # (batch, 600) int64: index of each frame, as short clips repeat theirs
    target: Tensor
    clips: Tensor


def scoring_plan(
    cache: FeatureCache, batch: int, mean: bool = False, rank: int = 0, world: int = 1
) -> list[NDArray[np.int64]]:
    """List batches of the first window of every clip, or of windows that overlap by half; processes take turns."""
    starts = [cache.starts(clip, mean) for clip in range(len(cache))]
    clips = np.repeat(np.arange(len(cache)), [len(part) for part in starts])
    mine = np.stack([clips, np.concatenate(starts)], axis=1)[rank::world]
    return [mine[first : first + batch] for first in range(0, len(mine), batch)]


class Windows(Dataset[Batch]):
    """Reads a batch at a time: a list of (clip, first frame) -> Batch."""

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache
        self.labels = cache.labels

    def __getitem__(self, crops: NDArray[np.int64]) -> Batch:
        frontend = self.cache.frontend
        rows = np.empty((len(crops), frontend.width, frontend.bands), np.float16)
        for row, (clip, start) in zip(rows, crops, strict=True):
            row[:] = self.cache.window(clip, start)
        features = torch.from_numpy(rows).transpose(1, 2)[:, None]  # (batch, 1, bands, width)
        clips = torch.from_numpy(crops[:, 0].copy())
        return Batch(features, torch.from_numpy(self.labels[crops[:, 0]]), clips)


class SoundWindows(Dataset[SoundBatch]):
    """Reads batches of sound through a chain of transforms.

        clip      |-------------------------------------------------------------|
        read             |lead|------------ window x speed -------------|
        output                |------------ window ----------------|            without the lead

    A clip shorter than a window is read whole; its frames are repeated after the front-end.
    """

    def __init__(self, cache: SoundCache, chain: Chain, seed: int, epoch: int) -> None:
        self.cache, self.chain, self.seed, self.epoch = cache, chain, seed, epoch
        self.labels = cache.labels

    def __getitem__(self, crops: NDArray[np.int64]) -> SoundBatch:
        frontend = self.cache.frontend
        size = (frontend.width - 1) * frontend.hop + frontend.window
        sound = np.zeros((len(crops), size), np.float32)
        order = np.empty((len(crops), frontend.width), np.int64)
        for row, places, (clip, start) in zip(sound, order, crops.tolist(), strict=True):
            samples = self.augmented(clip, start, size)
            row[: len(samples)] = samples
            count = max(1, frontend.count(len(samples)))
            places[:] = np.arange(frontend.width) + (start if count < frontend.width else 0)
            places %= count
        target, clips = (torch.from_numpy(part) for part in (self.labels[crops[:, 0]], crops[:, 0].copy()))
        return SoundBatch(torch.from_numpy(sound), torch.from_numpy(order), target, clips)

    def augmented(self, clip: int, start: int, size: int) -> NDArray[np.float32]:
        """Return a window's samples after the transforms: (size,), or fewer of a shorter clip."""
        dice = np.random.default_rng([self.seed, self.epoch, clip, start])
        frontend, stored = self.cache.frontend, self.cache.samples(clip)
        begin = start * frontend.hop if self.cache.lengths[clip] >= frontend.width else 0
        lead = min(int(LEAD * frontend.rate), begin)
        speed = self.chain.draw_speed(dice)
        wanted = round((lead + size) * speed)
        # A faster window needs more sound: at the end of a clip it starts earlier.
        first = max(0, min(begin - lead, len(stored) - wanted))
        samples = stored[first : first + wanted].astype(np.float32) / np.float32(2**15)
        heard = HighPass(frontend.rate).push(self.chain(samples, speed, dice))
        return heard[lead : lead + size].astype(np.float32)


def batches(
    cache: FeatureCache, plan: list[NDArray[np.int64]], workers: int, device: torch.device
) -> DataLoader[Batch]:
    """Load a plan's batches of features with `workers` processes, into pinned memory for a GPU."""
    return loader(Windows(cache), plan, workers, device)


def loader(
    windows: Dataset[Read], plan: list[NDArray[np.int64]], workers: int, device: torch.device
) -> DataLoader[Read]:
    """The same for features or sound."""
    return DataLoader(
        windows,
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
        multiprocessing_context="spawn" if workers else None,
    )
