"""Batches of windows: crops of 600 frames from the cache, or from sound that was changed by augmentation.

    windows = Windows(cache)                            # or VersionWindows(caches), SoundWindows(cache, chain, seed)
    batch = windows.read(crops, epoch)                  # crops (batch, 2): clip and first frame
    batches = Batches(windows, workers, device)         # a run's reader; its processes start once
    for batch in batches(epoch, plan): ...

Order and crops are drawn from (seed, epoch) before an epoch begins, augmentation of a window from (seed, epoch, clip,
first frame). Batches are therefore equal for any number of worker processes, and a resumed run needs no random state.
"""

import signal
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runtime.audio.high_pass import HighPass
from train.augment.chain import Chain
from train.data.cache import Cache, FeatureCache, SoundCache

LEAD = 0.25  # s of sound before a window that are augmented with it, as context of rooms and codecs

Crops = NDArray[np.int64]  # (batch, 2): clip and first frame


class Batch(NamedTuple):
    """Features of one training step."""

    features: Tensor  # (batch, 1, bands, 600) raw log power: float16 from the cache, float32 of changed sound
    target: Tensor  # (batch,) int64: 1 bona fide, 0 spoof, -1 unlabelled
    clips: Tensor  # (batch,) int64: index of the clip in the cache


def scoring_plan(cache: FeatureCache, batch: int, mean: bool = False, rank: int = 0, world: int = 1) -> list[Crops]:
    """List batches of the first window of every clip, or of windows that overlap by half; processes take turns."""
    starts = [cache.starts(clip, mean) for clip in range(len(cache))]
    clips = np.repeat(np.arange(len(cache)), [len(part) for part in starts])
    mine = np.stack([clips, np.concatenate(starts)], axis=1)[rank::world]
    return [mine[first : first + batch] for first in range(0, len(mine), batch)]


class Windows(Dataset[Batch]):
    """Reads a batch of cached features at a time."""

    dtype: type[np.generic] = np.float16

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __getitem__(self, item: tuple[Crops, int]) -> Batch:
        return self.read(*item)

    def read(self, crops: Crops, epoch: int = 0) -> Batch:
        """Read a batch of crops as they are in an epoch."""
        frontend = self.cache.frontend
        rows = np.empty((len(crops), frontend.width, frontend.bands), self.dtype)
        for row, (clip, start) in zip(rows, crops.tolist(), strict=True):
            row[:] = self.window(clip, start, epoch)
        features = torch.from_numpy(rows).transpose(1, 2)[:, None]  # (batch, 1, bands, width)
        clips = torch.from_numpy(crops[:, 0].copy())
        return Batch(features, torch.from_numpy(self.cache.labels[crops[:, 0]]), clips)

    def window(self, clip: int, start: int, epoch: int) -> NDArray[np.floating]:
        """Return a window's raw log power, (width, bands)."""
        assert isinstance(self.cache, FeatureCache)
        return self.cache.window(clip, start)


class VersionWindows(Windows):
    """Reads versions of clips whose sound was changed: in epoch e, version (e + clip) mod n."""

    def __init__(self, versions: Sequence[FeatureCache]) -> None:
        super().__init__(versions[0])
        self.versions = versions

    def window(self, clip: int, start: int, epoch: int) -> NDArray[np.floating]:
        """Return 600 frames from `start`, or the last ones where a version is shorter than the first."""
        version = self.versions[(epoch + clip) % len(self.versions)]
        room = int(version.lengths[clip]) - self.cache.frontend.width
        return version.window(clip, min(start, room) if room >= 0 else start)


class SoundWindows(Windows):
    """Reads sound through a chain of transforms and the front-end.

        clip      |-------------------------------------------------------------|
        read             |lead|------------ window x speed -------------|
        output                |------------ window ----------------|            without the lead

    A clip shorter than a window is read whole; its frames are repeated after the front-end.
    """

    dtype = np.float32
    cache: SoundCache

    def __init__(self, cache: SoundCache, chain: Chain, seed: int) -> None:
        super().__init__(cache)
        self.chain, self.seed = chain, seed

    def window(self, clip: int, start: int, epoch: int) -> NDArray[np.floating]:
        frontend = self.cache.frontend
        samples = self.augmented(clip, start, epoch)
        # A short clip that was played faster still has a frame.
        frames = frontend.frames_of(np.pad(samples, (0, max(0, frontend.window - len(samples)))))
        short = len(frames) < frontend.width
        return frames[(np.arange(frontend.width) + start) % len(frames)] if short else frames

    def augmented(self, clip: int, start: int, epoch: int) -> NDArray[np.float64]:
        """Return a window's high-passed samples after the transforms; those of a shorter clip are fewer."""
        dice = np.random.default_rng([self.seed, epoch, clip, start])
        frontend, stored = self.cache.frontend, self.cache.samples(clip)
        size = (frontend.width - 1) * frontend.hop + frontend.window
        begin = start * frontend.hop if self.cache.lengths[clip] >= frontend.width else 0
        lead = min(int(LEAD * frontend.rate), begin)
        speed = self.chain.draw_speed(dice)
        wanted = round((lead + size) * speed)
        # A faster window needs more sound: at the end of a clip it starts earlier.
        first = max(0, min(begin - lead, len(stored) - wanted))
        samples = stored[first : first + wanted].astype(np.float32) / np.float32(2**15)
        return HighPass(frontend.rate).push(self.chain(samples, speed, dice))[lead : lead + size]


class Batches:
    """Reads batches with `workers` processes, which start once, into pinned memory for a GPU."""

    def __init__(self, windows: Windows, workers: int, device: torch.device) -> None:
        self._items: list[tuple[Crops, int]] = []
        self._loader = DataLoader(
            windows,
            batch_size=None,
            sampler=self._items,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )

    def __call__(self, epoch: int, plan: Sequence[Crops]) -> Iterator[Batch]:
        self._items[:] = [(crops, epoch) for crops in plan]
        # Ctrl-C reaches all processes of a terminal. Readers start with it blocked; the training process ends them.
        if self._loader.num_workers:
            resource_tracker.ensure_running()  # its start would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return iter(self._loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
