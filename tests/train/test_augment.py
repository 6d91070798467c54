"""Augmentation on features does what it would do to the sound."""

import math

import numpy as np
import pytest
import torch

from runtime.audio.features import FLOOR, PRESETS, RATE
from train.augment.features import NEPER, Augment, mask, specmix
from train.config import Augmentation
from train.data.level import level


def test_a_dither_is_all_that_is_done_by_default_and_outside_training_only_the_level() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 1, 45, 600) + 5
    assert torch.allclose(Augment(Augmentation(), PRESETS["f0"])(features), features, atol=1e-3)
    silence = torch.full((8, 1, 45, 600), math.log(FLOOR))
    dithered = Augment(Augmentation(), PRESETS["f0"])(silence)
    assert (dithered > silence).float().mean() > 0.95
    assert torch.equal(Augment(Augmentation(noise=None), PRESETS["f0"])(features), features)
    everything = Augmentation(gain=9, noise=(-60.0, -20.0), mask_bands=9, mask_frames=99)
    leveled = PRESETS["f0"].with_level("window-mean")
    assert torch.equal(Augment(everything, leveled).eval()(features.half()), level(features.half().float(), leveled))


def test_gain_is_one_constant_per_window_within_its_range() -> None:
    features = torch.randn(200, 1, 45, 600)
    change = Augment(Augmentation(gain=6.0, noise=None), PRESETS["f0"])(features) - features
    assert torch.allclose(change, change[:, :, :1, :1].expand_as(change), atol=1e-5)
    db = change[:, 0, 0, 0] / NEPER
    assert -6.0 <= db.min() < -4 and 4 < db.max() <= 6.0
    # what a factor on the samples does
    sound = (np.random.default_rng(0).standard_normal(RATE) * 0.1).astype(np.float32)
    louder = PRESETS["f0"].frames(sound * np.float32(10 ** (6 / 20))) - PRESETS["f0"].frames(sound)
    assert np.allclose(louder, 6 * NEPER, atol=1e-4)


def test_softer_windows_stop_at_the_floor() -> None:
    quiet = torch.full((50, 1, 45, 600), math.log(FLOOR) + 0.1)
    softer = Augment(Augmentation(gain=30.0, noise=None), PRESETS["f0"])(quiet)
    assert softer.min() == torch.tensor(math.log(FLOOR))


@pytest.mark.parametrize("name", PRESETS)
def test_noise_is_what_the_front_end_makes_of_real_noise(name: str) -> None:
    """On digital silence the augmented features and those of noisy samples have the same mean and spread."""
    frontend, db = PRESETS[name].with_level("none"), -40.0
    torch.manual_seed(0)
    silence = torch.full((8, 1, frontend.bands, 600), math.log(FLOOR))
    ours = Augment(Augmentation(noise=(db, db)), frontend)(silence)
    sound = np.random.default_rng(5).standard_normal(40 * RATE).astype(np.float32) * np.float32(10 ** (db / 20))
    real = frontend.frames(sound)
    inner = slice(3, -1)  # the outermost bands hold half a triangle or DC
    assert abs(float(ours[:, 0, inner].mean()) - real[:, inner].mean()) < 0.05
    assert abs(float(ours[:, 0, inner].std()) - real[:, inner].std()) < 0.05


def test_noise_far_below_changes_nothing_and_far_above_hides_all() -> None:
    loud = torch.full((2, 1, 45, 600), 5.0)
    assert torch.allclose(Augment(Augmentation(noise=(-120.0, -110.0)), PRESETS["f0"])(loud), loud, atol=1e-3)
    a, b = torch.full((2, 1, 45, 600), -20.0), torch.full((2, 1, 45, 600), -10.0)
    augment = Augment(Augmentation(noise=(-10.0, -10.0)), PRESETS["f0"])
    torch.manual_seed(1)
    one = augment(a)
    torch.manual_seed(1)
    assert (one - augment(b)).abs().mean() < 0.01  # the noise itself fades now and then; elsewhere it hides both


@pytest.mark.parametrize("axis, longest", [(2, 10), (3, 100)])
def test_masks_are_one_run_of_neighbours_set_to_the_mean(axis: int, longest: int) -> None:
    features = torch.randn(300, 1, 45, 600)
    changed = mask(features, axis, longest) != features
    lengths = changed.any(dim=5 - axis).sum(dim=2)[:, 0]
    assert lengths.min() == 0 and lengths.max() == longest
    for window in range(50):
        places = changed[window, 0].any(dim=2 - (axis - 1)).nonzero()[:, 0]
        if len(places):
            assert places[-1] - places[0] + 1 == len(places)
            masked = mask(features, axis, 0)[window, 0]
            assert torch.equal(masked, features[window, 0])
    out = mask(features[:5], axis, longest)
    for window, other in zip(out, features[:5], strict=True):
        touched = window[window != other]
        assert torch.allclose(touched, other.mean().expand_as(touched), atol=1e-5)


def test_the_same_seed_gives_the_same_augmentation() -> None:
    augment = Augment(Augmentation(gain=3, noise=(-90.0, -50.0), mask_bands=5, mask_frames=50), PRESETS["wide"])
    features = torch.randn(4, 1, 60, 600)
    torch.manual_seed(3)
    one = augment(features)
    torch.manual_seed(3)
    assert torch.equal(one, augment(features))
    assert not torch.equal(one, augment(features))


def runs(rows: torch.Tensor) -> int:
    """Number of runs of neighbours that are set."""
    return int((torch.diff(rows.int(), prepend=torch.zeros(1, dtype=torch.int32)) == 1).sum())


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_specmix_pastes_bands_of_one_other_window_and_mixes_its_label_by_their_share(batch: int) -> None:
    features, target = torch.randn(batch, 1, 45, 600), torch.arange(batch) % 2
    torch.manual_seed(0)
    touched = 0
    for _ in range(20):
        mixed, labels = specmix(features, target, 1.0, "share")
        for row in range(batch):
            changed = (mixed[row, 0] != features[row, 0]).any(dim=1)
            assert 1 <= runs(changed) <= 2 and changed.sum() <= 2 * (45 // 4)
            donors = [one for one in range(batch) if torch.equal(mixed[row, 0][changed], features[one, 0][changed])]
            assert len(donors) == 1 and donors[0] != row  # whole rows, every frame in its place
            share = changed.float().mean()
            assert labels[row] == pytest.approx(float((1 - share) * target[row] + share * target[donors[0]]), abs=1e-6)
            touched += 1
    assert touched == 20 * batch


def test_specmix_takes_its_share_of_the_windows_and_can_leave_labels() -> None:
    features, target = torch.randn(400, 1, 60, 20), torch.arange(400) % 2
    mixed, labels = specmix(features, target, 0.25, "keep")
    assert 0.18 < (mixed != features).flatten(1).any(dim=1).float().mean() < 0.32
    assert labels is target
    mixed, labels = specmix(features, target, 0.25, "share")
    alone = (mixed == features).flatten(1).all(dim=1)
    assert torch.equal(labels[alone], target[alone].float())
    one = specmix(features[:1], target[:1], 1.0, "share")
    assert torch.equal(one[0], features[:1]) and torch.equal(one[1], target[:1])  # nobody to take from
