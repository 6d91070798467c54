"""From clips to windows whose sound was changed: the same for any number of readers, and after a resume."""

import itertools
import multiprocessing
import os
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
from train.data.cache import SoundCache, build_cache, build_sound_cache, build_versions
from train.data.corpus import Trial, open_corpus
from train.data.dataset import Batch, Batches, SoundWindows, VersionWindows
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
    monkeypatch.setattr(shards, "compute_shards", None)
    build_sound_cache(PRESETS["f0"], trials, tmp_path / "cache", 1)  # nothing is computed a second time


@pytest.mark.parametrize("name", PRESETS)
def test_sound_that_nothing_touched_gives_the_cached_features(name: str, made_corpus: Path, made_cache: Path) -> None:
    trials = open_corpus(made_corpus, "train").trials
    features = build_cache(PRESETS[name], trials, made_cache, 1)
    sound = build_sound_cache(PRESETS[name], trials, made_cache, 1)
    windows = SoundWindows(sound, chain_of(replace(HARD, sound_share=0.0)), 0)
    width = PRESETS[name].width
    assert (sound.lengths < width).any() and (sound.lengths > width).any()
    for crops in training_plan(sound, 8, 1, 0):
        batch = windows.read(crops)
        cached = np.stack([features.window(clip, start).T for clip, start in crops])
        assert np.abs(batch.features[:, 0].numpy() - cached).max() < 0.01  # half precision: 2^-7 at the floor
        assert (batch.target.numpy() == sound.labels[crops[:, 0]]).all()


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_what_is_heard_follows_from_seed_and_epoch_for_any_number_of_readers(cache: SoundCache) -> None:
    chain, cpu = chain_of(HARD), torch.device("cpu")
    plan = list(training_plan(cache, 8, 0, 1))

    def read(seed: int, epoch: int, workers: int, skip: int = 0) -> list[Batch]:
        return list(Batches(SoundWindows(cache, chain, seed), workers, cpu)(epoch, plan[skip:]))

    first = read(3, 1, 0)
    assert all(same(one, other) for one, other in zip(first, read(3, 1, 2), strict=True))
    assert all(same(one, other) for one, other in zip(first[1:], read(3, 1, 0, skip=1), strict=True))  # resumed
    for seed, epoch in ((4, 1), (3, 2)):
        other = read(seed, epoch, 0)
        assert not any(torch.equal(one.features, two.features) for one, two in zip(first, other, strict=True))
    # Another order or another process of torchrun hears the same of the same window.
    turned = SoundWindows(cache, chain, 3).read(plan[0][::-1], 1)
    assert torch.equal(turned.features.flip(0), first[0].features)


@pytest.mark.parametrize("workers", [0, 2])
def test_one_reader_serves_all_epochs_with_processes_that_outlive_ctrl_c(workers: int, cache: SoundCache) -> None:
    windows, plan = SoundWindows(cache, chain_of(HARD), 0), list(training_plan(cache, 8, 0, 0))
    read, processes = Batches(windows, workers, torch.device("cpu")), []
    for epoch, part in ((0, plan), (1, plan[1:]), (2, plan[::-1])):
        found = read(epoch, part)
        processes.append([child.pid for child in multiprocessing.active_children() if child.pid])
        for process in processes[-1]:
            os.kill(process, signal.SIGINT)
        for crops, batch in zip(part, found, strict=True):
            assert same(batch, windows.read(crops, epoch))
    assert processes[0] == processes[1] == processes[2] and len(processes[0]) >= workers


def versions_of(frontend: FrontEnd, trials: Sequence[Trial], folder: Path, settings: Augmentation) -> VersionWindows:
    return VersionWindows(build_versions(frontend, trials, folder, 1, settings=settings, chain=chain_of(settings)))


def test_versions_take_turns_and_are_made_once(
    made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = open_corpus(made_corpus, "train").trials
    settings = replace(HARD, sound_share=1.0, versions=3)
    decoded = list[Path]()
    monkeypatch.setattr(shards, "load", lambda path, rate: decoded.append(path) or load(path, rate))
    monkeypatch.setattr(shards, "SAMPLE", 1)
    windows = versions_of(PRESETS["f0"], trials, tmp_path, settings)
    assert len(decoded) == len(trials) + 1  # one to estimate size and time
    cache = windows.cache
    epochs = [[windows.window(clip, 0, epoch) for clip in range(len(cache))] for epoch in range(4)]
    for clip in range(len(cache)):
        assert np.array_equal(epochs[0][clip], epochs[3][clip])
        assert not any(np.array_equal(epochs[0][clip], epochs[other][clip]) for other in (1, 2))
    plan = list(training_plan(cache, 8, 0, 2))
    for one, other in zip(plan, Batches(windows, 2, torch.device("cpu"))(2, plan), strict=True):
        assert torch.equal(windows.read(one, 2).features, other.features)
        assert other.features.shape == (8, 1, 45, 600) and torch.isfinite(other.features).all()
    monkeypatch.setattr(shards, "compute_shards", None)
    again = versions_of(PRESETS["f0"], trials, tmp_path, replace(settings, gain=20.0))  # features' options do not count
    assert np.array_equal(again.window(1, 0, 2), epochs[2][1])
    with pytest.raises(TypeError):
        versions_of(PRESETS["f0"], trials, tmp_path, replace(settings, dither=2.0))


@pytest.mark.parametrize("name", PRESETS)
def test_versions_that_nothing_touched_are_the_cached_features(
    name: str, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    trials = open_corpus(made_corpus, "train").trials
    features = build_cache(PRESETS[name], trials, made_cache, 1)
    windows = versions_of(PRESETS[name], trials, tmp_path, replace(HARD, sound_share=0.0, versions=2))
    cache = windows.cache
    assert cache.trials == features.trials and (cache.lengths == features.lengths).all()
    for crops in training_plan(features, 8, 1, 0):
        cached = np.stack([features.window(clip, start).T for clip, start in crops])
        assert np.array_equal(windows.read(crops, 1).features[:, 0].numpy(), cached)


@pytest.mark.parametrize("length", [1728, 1729, 5000, 79_597, 79_598, 79_599, 90_000])
def test_clips_of_any_length_fill_a_window_at_any_speed(length: int, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).standard_normal(length).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    cache = build_sound_cache(PRESETS["f0"], [Trial("a", "s", "-", True, tmp_path / "a.wav")], tmp_path / "c", 1)
    room = max(1, int(cache.lengths[0]) - 600)
    windows = SoundWindows(cache, Chain((), 1.0, 0.1), 0)
    for epoch, start in itertools.product(range(12), (0, room - 1)):
        found, sound = windows.window(0, start, epoch), windows.augmented(0, start, epoch)
        assert found.shape == (600, 45) and np.isfinite(found).all() and len(sound) <= 599 * 130 + 1728
        # Frames repeat; none reaches into the zeros behind a clip's end, but where faster made it shorter than one.
        expected = PRESETS["f0"].frames_of(np.pad(sound, (0, max(0, 1728 - len(sound)))))
        shift = start if len(expected) < 600 else 0
        assert np.array_equal(found, np.tile(expected, (601, 1))[shift % len(expected) :][:600])


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
