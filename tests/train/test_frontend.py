"""The front-end against a float64 reference with torchaudio's mel bands; levels in torch against the runtime's."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, RATE, Level
from runtime.audio.features import level as numpy_level
from runtime.audio.high_pass import HighPass
from train.data.corpus import open_corpus
from train.data.level import level

devices = pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])


def filtered(sound: np.ndarray) -> np.ndarray:
    """A first-order high-pass at 20 Hz whose state starts with the first sample."""
    out, keep, last, value = np.empty(len(sound)), np.exp(-2 * np.pi * 20 / RATE), float(sound[0]), 0.0
    for n, sample in enumerate(sound.astype(np.float64)):
        out[n] = value = sample - last + keep * value
        last = sample
    return out


def float64_reference(name: str, sound: np.ndarray) -> np.ndarray:
    """Straight from the definition: the recursion of the high-pass, explicit DFT of windowed frames in float64, then
    the bands, (n, bands)."""
    frontend = PRESETS[name]
    sound = filtered(sound)
    n = np.arange(frontend.window)
    angle = 2 * np.pi * n / frontend.window
    blackman, hann = 0.42 - 0.5 * np.cos(angle) + 0.08 * np.cos(2 * angle), 0.5 - 0.5 * np.cos(angle)
    window = hann if frontend.shape == "mel" else blackman
    basis = np.exp(-2j * np.pi * np.outer(n, np.arange(frontend.window // 2 + 1)) / frontend.window)
    starts = range(0, len(sound) - frontend.window + 1, frontend.hop)
    power = np.stack([np.abs((sound[s : s + frontend.window] * window) @ basis) ** 2 for s in starts])
    if name == "wide":
        edges, bins = np.linspace(0, 7000 / RATE * 512, 62), np.arange(power.shape[1])
        triangles = [np.interp(bins, edges[k : k + 3], [0, 1, 0]) for k in range(60)]
        power = power @ np.array(triangles).T
    if frontend.shape == "mel":
        power = power @ melscale_fbanks(201, 0.0, 8000.0, 80, RATE, norm="slaney", mel_scale="slaney").double().numpy()
    return np.log(power[:, : frontend.bands])


@pytest.mark.parametrize("name", PRESETS)
def test_frames_agree_with_a_float64_reference(name: str, corpus_root: Path) -> None:
    paths = [trial.path for trial in open_corpus(corpus_root, "dev").trials if trial.path is not None]
    sounds = (load(path).samples for path in paths)
    for clip in islice((sound[:RATE] for sound in sounds if len(sound) >= RATE), 3):
        reference = float64_reference(name, clip)
        sounding = reference > np.log(1e-8)  # at the floor both are the floor
        assert sounding.mean() > 0.5
        assert np.abs(PRESETS[name].frames(clip) - reference)[sounding].max() < 1e-4


@pytest.mark.parametrize("samples", [1, 511, 512, 513, 20_000])
def test_the_high_pass_agrees_with_its_recursion(samples: int) -> None:
    clip = (np.random.default_rng(2).standard_normal(samples) * 0.1 + 0.05).astype(np.float32)
    assert np.abs(filtered(clip) - HighPass(RATE).push(clip)).max() < 1e-12


@devices
@pytest.mark.parametrize("kind", ["window-mean", "running-mean", "window-max"])
@pytest.mark.parametrize("name", PRESETS)
def test_level_agrees_and_a_batch_is_its_clips(name: str, kind: Level, device: str) -> None:
    frontend = PRESETS[name].with_level(kind)
    sound = (np.random.default_rng(1).standard_normal((3, RATE)) * 0.1).astype(np.float32)
    raw = np.stack([frontend.frames(clip) for clip in sound])
    leveled = level(torch.from_numpy(raw).transpose(1, 2)[:, None].to(device), frontend).cpu().numpy()
    for frames, one in zip(raw, leveled[:, 0], strict=True):
        assert np.abs(one.T - numpy_level(frames, kind)).max() < 1e-4


def test_level_none_is_the_identity() -> None:
    features = torch.randn(2, 1, 45, 600)
    assert torch.equal(level(features, PRESETS["f0"]), features)
