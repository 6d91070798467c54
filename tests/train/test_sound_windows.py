"""From clips to windows whose sound was changed: the same for any number of readers, and after a resume."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, RATE, FrontEnd
from train.augment.chain import Chain, build_chain
from train.checkpoint import read_checkpoint
from train.config import Augmentation
from train.data import shards
from train.data.cache import SoundCache, VersionedCache, build_cache, build_sound_cache, build_versions
from train.data.corpus import Trial, open_corpus
from train.data.dataset import SoundBatch, SoundWindows, Windows, loader
from train.data.frontend import SoundFrontEnd
from train.data.sampling import training_plan

HARD = Augmentation(
    speed=10, rir="synthetic", snr=(5, 30), sound_gain=6, rawboost="lnl,isd,ssi", band="random",
    codecs="alaw,mulaw,gsm,adpcm,vorbis", dither=1,
)  # fmt: skip


def chain_of(settings: Augmentation) -> Chain:
    made = build_chain(settings, RATE)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def cache(made_corpus: Path, made_cache: Path) -> SoundCache:
    return build_sound_cache(PRESETS["f0"], open_corpus(made_corpus, "train").trials, made_cache, 1)


def test_the_sound_cache_holds_the_very_samples_of_the_same_clips(
    made_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = open_corpus(made_corpus, "dev").trials
    short, broken = tmp_path / "short.wav", tmp_path / "broken.wav"
    soundfile.write(short, np.random.default_rng(0).standard_normal(600) * 0.1, RATE)
    broken.write_bytes(b"RIFF")
    trials = [Trial("short", "s", "-", True, short), *trials, Trial("broken", "s", "-", True, broken)]
    sounds = {name: build_sound_cache(PRESETS[name], trials, tmp_path / "cache", 1) for name in PRESETS}
    assert len(list((tmp_path / "cache").glob("*.s16"))) == 1  # one for all front-ends
    for name, sound in sounds.items():
        features = build_cache(PRESETS[name], trials, tmp_path / "cache", 1)
        assert sound.trials == features.trials and (sound.lengths == features.lengths).all()
        assert sound.skipped == features.skipped and (sound.labels == features.labels).all()
        for clip, trial in enumerate(sound.trials):
            assert np.array_equal(sound.samples(clip) / 2**15, load(trial.path or "").samples)
    assert "short" in sounds["f0"].skipped and "short" not in sounds["wide"].skipped
    monkeypatch.setattr(shards, "compute_shard", None)
    build_sound_cache(PRESETS["f0"], trials, tmp_path / "cache", 1)  # nothing is computed a second time


@pytest.mark.parametrize("name", PRESETS)
def test_sound_that_nothing_touched_gives_the_cached_features(name: str, made_corpus: Path, made_cache: Path) -> None:
    trials = open_corpus(made_corpus, "train").trials
    features = build_cache(PRESETS[name], trials, made_cache, 1)
    sound = build_sound_cache(PRESETS[name], trials, made_cache, 1)
    windows = SoundWindows(sound, chain_of(replace(HARD, sound_share=0.0)), 0, 0)
    width = PRESETS[name].width
    assert (sound.lengths < width).any() and (sound.lengths > width).any()
    for crops in training_plan(sound, 8, 1, 0):
        batch = windows[crops]
        heard = SoundFrontEnd(PRESETS[name])(batch.sound, batch.order)
        cached = np.stack([features.window(clip, start).T for clip, start in crops])
        assert np.abs(heard[:, 0].numpy() - cached).max() < 0.01  # half precision: 2^-7 at the floor
        assert (batch.target.numpy() == sound.labels[crops[:, 0]]).all()


def same(one: SoundBatch, other: SoundBatch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("sound", "order", "target", "clips"))


def test_what_is_heard_follows_from_seed_and_epoch_for_any_number_of_readers(cache: SoundCache) -> None:
    chain, cpu = chain_of(HARD), torch.device("cpu")
    plan = list(training_plan(cache, 8, 0, 1))

    def read(seed: int, epoch: int, workers: int, skip: int = 0) -> list[SoundBatch]:
        return list(loader(SoundWindows(cache, chain, seed, epoch), plan[skip:], workers, cpu))

    first = read(3, 1, 0)
    assert all(same(one, other) for one, other in zip(first, read(3, 1, 2), strict=True))
    assert all(same(one, other) for one, other in zip(first[1:], read(3, 1, 0, skip=1), strict=True))  # resumed
    for seed, epoch in ((4, 1), (3, 2)):
        assert not any(torch.equal(one.sound, two.sound) for one, two in zip(first, read(seed, epoch, 0), strict=True))
    # Another order or another process of torchrun hears the same of the same window.
    turned = SoundWindows(cache, chain, 3, 1)[plan[0][::-1]]
    assert torch.equal(turned.sound.flip(0), first[0].sound)


def versions_of(frontend: FrontEnd, trials: Sequence[Trial], folder: Path, settings: Augmentation) -> VersionedCache:
    return VersionedCache.of(build_versions(frontend, trials, folder, 1, settings=settings))


def test_versions_take_turns_and_are_made_once(
    made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = open_corpus(made_corpus, "train").trials
    settings = replace(HARD, sound_share=1.0, versions=3)
    cache = versions_of(PRESETS["f0"], trials, tmp_path, settings)
    epochs = [[cache.at(epoch).window(clip) for clip in range(len(cache))] for epoch in range(4)]
    for clip in range(len(cache)):
        assert np.array_equal(epochs[0][clip], epochs[3][clip])
        assert not any(np.array_equal(epochs[0][clip], epochs[other][clip]) for other in (1, 2))
    plan = list(training_plan(cache, 8, 0, 2))
    for one, other in zip(plan, loader(Windows(cache.at(2)), plan, 2, torch.device("cpu")), strict=True):
        assert torch.equal(Windows(cache.at(2))[one].features, other.features)
        assert other.features.shape == (8, 1, 45, 600) and torch.isfinite(other.features).all()
    monkeypatch.setattr(shards, "compute_shard", None)
    again = versions_of(PRESETS["f0"], trials, tmp_path, replace(settings, gain=20.0))  # features' options do not count
    assert np.array_equal(again.at(2).window(1), epochs[2][1])
    with pytest.raises(TypeError):
        versions_of(PRESETS["f0"], trials, tmp_path, replace(settings, dither=2.0))


@pytest.mark.parametrize("name", PRESETS)
def test_versions_that_nothing_touched_are_the_cached_features(
    name: str, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    trials = open_corpus(made_corpus, "train").trials
    features = build_cache(PRESETS[name], trials, made_cache, 1)
    cache = versions_of(PRESETS[name], trials, tmp_path, replace(HARD, sound_share=0.0, versions=2))
    assert cache.trials == features.trials and (cache.lengths == features.lengths).all()
    for crops in training_plan(features, 8, 1, 0):
        cached = np.stack([features.window(clip, start).T for clip, start in crops])
        assert np.array_equal(Windows(cache.at(1))[crops].features[:, 0].numpy(), cached)


@pytest.mark.parametrize("length", [1728, 1729, 5000, 79_597, 79_598, 79_599, 90_000])
def test_clips_of_any_length_fill_a_window_at_any_speed(length: int, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).standard_normal(length).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    cache = build_sound_cache(PRESETS["f0"], [Trial("a", "s", "-", True, tmp_path / "a.wav")], tmp_path / "c", 1)
    room = max(1, int(cache.lengths[0]) - 600)
    for epoch in range(12):
        windows = SoundWindows(cache, Chain((), 1.0, 0.1), 0, epoch)
        batch = windows[np.array([[0, 0], [0, room - 1]])]
        features = SoundFrontEnd(PRESETS["f0"])(batch.sound, batch.order)
        assert features.shape == (2, 1, 45, 600) and torch.isfinite(features).all()
        # No frame reaches into the zeros behind a clip's end, but where faster made it shorter than one frame.
        for start, order in zip((0, room - 1), batch.order, strict=True):
            heard = len(windows.augmented(0, start, 599 * 130 + 1728))
            assert 130 * int(order.max()) + 1728 <= max(heard, 1728) and heard <= 599 * 130 + 1728
            assert heard < 1728 or int(order.max()) == min(599, (heard - 1728) // 130)


@pytest.mark.parametrize("versions", ["0", "2"])
def test_a_run_that_changes_sound_resumes_to_the_very_weights(
    versions: str, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    """Ended in the middle of an epoch, taken up with another number of readers."""
    from tests.train.test_loop import command, kill_in_epoch, python, weights

    options = ["--epochs", "2", "--versions", versions, "--speed", "10", "--rir", "synthetic", "--snr", "5", "30",
               "--codecs", "alaw,gsm", "--specmix", "0.5"]  # fmt: skip
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    python(command(made_corpus, made_cache, whole, *options))
    child = kill_in_epoch(command(made_corpus, made_cache, parted, *options), parted, signal.SIGTERM, epochs=1)
    assert "with --resume" in child.communicate()[1]
    assert read_checkpoint(parted / "last.pt").progress.epoch == 1
    python(command(made_corpus, made_cache, parted, *options, "--resume", "--workers", "1"))
    one, other = weights(whole / "last.pt"), weights(parted / "last.pt")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert "--snr was" in python(command(made_corpus, made_cache, parted, *options[:2], "--resume"), 2).stderr
