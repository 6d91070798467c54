"""Which clips and which frames a batch holds: everything follows from (seed, epoch)."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.audio.features import PRESETS
from train.data.cache import FeatureCache, build_cache, joined
from train.data.corpus import open_corpus
from train.data.dataset import Batches, VersionWindows, Windows, scoring_plan
from train.data.sampling import Sampling, training_plan


@pytest.fixture(scope="module")
def cache(made_corpus: Path, made_cache: Path) -> FeatureCache:
    return build_cache(PRESETS["f0"], open_corpus(made_corpus, "train").trials, made_cache, 1)


def test_an_epoch_takes_every_clip_once_and_crops_inside_it(cache: FeatureCache) -> None:
    plan = training_plan(cache, batch=4, seed=3, epoch=5)
    clips, starts = plan[..., 0].ravel(), plan[..., 1].ravel()
    assert sorted(clips) == list(range(len(cache)))
    room = np.where(cache.lengths > 600, cache.lengths - 599, cache.lengths)[clips]
    assert (starts >= 0).all() and (starts < room).all()
    assert len(set(starts)) > 6  # random, not all at the beginning


class Lengths:
    """A cache of clips about as long as a window, which has only their lengths."""

    def __init__(self, *frames: int) -> None:
        self.frontend, self.lengths = PRESETS["f0"], np.array(frames)
        self.labels = np.arange(len(frames)) % 2

    def window(self, clip: int, start: int) -> tuple[int, int]:
        return clip, start


def inside(length: int, start: int, width: int) -> bool:
    """True if a window from `start` lies in the clip, or repeats the frames of a shorter one."""
    return start + width <= length if length >= width else start < length


def test_a_crop_of_a_clip_as_long_as_a_window_is_the_clip() -> None:
    width = PRESETS["f0"].width
    cache = Lengths(*range(width - 4, width + 4))
    for epoch in range(20):
        for clip, start in training_plan(cache, 4, 0, epoch).reshape(-1, 2).tolist():  # type: ignore[arg-type]
            assert inside(int(cache.lengths[clip]), start, width)


def test_a_crop_lies_inside_every_version_of_its_clip() -> None:
    width = PRESETS["f0"].width
    versions = Lengths(width + 8, width + 8, width + 8), Lengths(width - 1, width, width + 3)
    windows = VersionWindows(versions)  # type: ignore[arg-type]
    for epoch, clip, start in itertools.product(range(2), range(3), range(9)):
        length = int(versions[(epoch + clip) % 2].lengths[clip])
        cropped: object = windows.window(clip, start, epoch)
        assert isinstance(cropped, tuple) and inside(length, cropped[1], width)


def test_the_order_follows_from_seed_and_epoch(cache: FeatureCache) -> None:
    def plan(seed: int, epoch: int) -> np.ndarray:
        return training_plan(cache, 4, seed, epoch)

    assert np.array_equal(plan(1, 2), plan(1, 2))
    assert not np.array_equal(plan(1, 2), plan(1, 3))
    assert not np.array_equal(plan(1, 2), plan(2, 2))


def test_processes_share_each_batch_without_overlap(cache: FeatureCache) -> None:
    whole = training_plan(cache, 6, 0, 0)
    parts = [training_plan(cache, 6, 0, 0, rank=rank, world=3) for rank in range(3)]
    assert all(part.shape == (4, 2, 2) for part in parts)
    for number in range(len(whole)):
        rows = np.concatenate([part[number] for part in parts])
        assert sorted(map(tuple, rows)) == sorted(map(tuple, whole[number]))


def test_balanced_sampling_shows_both_classes_alike(cache: FeatureCache) -> None:
    few = np.flatnonzero(cache.labels == 1)[:3]
    few_fakes = np.r_[few, np.flatnonzero(cache.labels == 0)]

    class Skewed:
        frontend, labels, lengths = cache.frontend, cache.labels[few_fakes], cache.lengths[few_fakes]

        def __len__(self) -> int:
            return len(few_fakes)

    plan = training_plan(Skewed(), 4, 0, 0, Sampling("balanced"))  # type: ignore[arg-type]
    labels = Skewed.labels[plan[..., 0]]
    assert (labels.mean(axis=1) == 0.5).all()
    drawn = np.bincount(plan[..., 0].ravel(), minlength=len(few_fakes))[:3]
    assert drawn.max() - drawn.min() <= 1  # the rare ones are repeated evenly


def test_balanced_sources_shows_sources_alike_within_each_class(cache: FeatureCache) -> None:
    groups = np.where(cache.labels == 1, 0, 3)
    groups[np.flatnonzero(cache.labels == 1)[0]] = 1  # a source of a single clip
    groups[np.flatnonzero(cache.labels == 0)[:2]] = 4
    plan = training_plan(cache, 4, 0, 0, Sampling("balanced-sources", groups))
    drawn = np.bincount(groups[plan[..., 0].ravel()])
    assert drawn[[0, 1, 3, 4]].tolist() == [len(cache) // 4] * 4


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_holds_originals_with_their_copies(cache: FeatureCache, world: int) -> None:
    real, fake = np.flatnonzero(cache.labels == 1), np.flatnonzero(cache.labels == 0)
    copies = dict(zip(fake[:5].tolist(), real[:5].tolist(), strict=True))
    pairs = np.array([(original, copy) for copy, original in copies.items()])
    plan = training_plan(cache, 8, 0, 0, Sampling(pairs=pairs))
    assert plan.shape == (len(cache) // 8, 8, 2)
    for rank in range(world):
        part = training_plan(cache, 8, 0, 0, Sampling(pairs=pairs), rank, world)
        count = 2 // world
        for batch in part:
            for (original, _), (copy, _) in zip(batch[:count], batch[count : 2 * count], strict=True):
                assert copies[int(copy)] == original
    drawn = plan[:, :2, 0].ravel()
    counts = np.bincount(drawn, minlength=len(cache))[real[:5]]
    assert counts.max() - counts.min() <= 1  # pairs are drawn evenly
    same = cache.lengths[plan[:, :2, 0]] == cache.lengths[plan[:, 2:4, 0]]
    assert (plan[:, :2, 1] == plan[:, 2:4, 1])[same].all()


def test_caches_of_several_corpora_read_as_one(made_corpus: Path, made_cache: Path, cache: FeatureCache) -> None:
    dev = build_cache(PRESETS["f0"], open_corpus(made_corpus, "dev").trials, made_cache, 1)
    both = joined([dev, cache])
    assert both.trials == [*dev.trials, *cache.trials] and len(both) == len(dev) + len(cache)
    assert np.array_equal(both.labels, np.r_[dev.labels, cache.labels])
    for clip in range(len(both)):
        there = dev.frames(clip) if clip < len(dev) else cache.frames(clip - len(dev))
        assert np.array_equal(both.frames(clip), there)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_reading_processes(cache: FeatureCache, workers: int) -> None:
    plan = list(training_plan(cache, 8, 0, 1))
    for crops, batch in zip(plan, Batches(Windows(cache), workers, torch.device("cpu"))(0, plan), strict=True):
        assert batch.features.shape == (8, 1, 45, 600) and batch.features.dtype == torch.float16
        for row, (clip, start) in enumerate(crops):
            assert np.array_equal(batch.features[row, 0].numpy().T, cache.window(clip, start))
            assert batch.target[row] == int(cache.trials[clip].bonafide or 0) and batch.clips[row] == clip


def test_scoring_takes_first_windows_or_all_with_the_last_at_the_end(cache: FeatureCache) -> None:
    first = np.concatenate(scoring_plan(cache, 5))
    assert np.array_equal(first, np.stack([np.arange(len(cache)), np.zeros(len(cache))], axis=1))
    every = np.concatenate(scoring_plan(cache, 5, mean=True))
    for clip, frames in enumerate(cache.lengths):
        starts = every[every[:, 0] == clip][:, 1]
        assert starts[0] == 0 and starts[-1] == max(0, frames - 600)
        assert (np.diff(starts) <= 300).all() and (np.diff(starts) > 0).all()
    shared = [row for rank in range(2) for row in np.concatenate(scoring_plan(cache, 5, True, rank, 2)).tolist()]
    assert sorted(shared) == sorted(every.tolist())


def test_every_process_sees_both_classes(cache: FeatureCache) -> None:
    whole = training_plan(cache, 4, 0, 0, Sampling("balanced"))
    parts = [training_plan(cache, 4, 0, 0, Sampling("balanced"), rank, 2) for rank in range(2)]
    assert sorted(whole.reshape(-1, 2).tolist()) == sorted(np.concatenate(parts).reshape(-1, 2).tolist())
    for part in parts:
        assert (cache.labels[part[:, :, 0]].sum(axis=1) == 1).all()
