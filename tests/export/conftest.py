"""Checkpoints for the tests of export: batch norms as training leaves them, random weights. No accuracy is meant."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, fill
from tests.threads import one_thread
from train.checkpoint import Checkpoint, RunProgress, build_network, versions, write_checkpoint
from train.config import Data, Distillation, Model, TrainConfig
from train.data.corpus import open_corpus
from train.losses.distillation import DistillationModel

__all__ = ["checkpoint", "make_checkpoint", "model_pt", "one_thread", "speech"]

Window = NDArray[np.float32]


def make_checkpoint(
    name: str = "ecanet9",
    width: float = 0.25,
    distill: str = "on",
    level: str = "none",
    loss: str = "asoftmax",
    streaming: bool = False,
) -> Checkpoint:
    """A network, as in ecanet9 or ecanet9/2/2 with a stem's strides, whose batch norms do something worth folding."""
    torch.manual_seed(1)
    distillation = Distillation(distill, loss=loss)  # type: ignore[arg-type]
    name, *strides = name.split("/")
    bands, frames = map(int, strides or (1, 1))
    form = Model(name, width, (bands, frames), streaming=streaming)
    settings = TrainConfig(Data(Path("none"), level=level), form, distillation)  # type: ignore[arg-type]
    model = DistillationModel(build_network(settings), settings.distillation)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.2)
            layer.momentum = None  # the mean over all that is seen
    probe = torch.randn(4, 1, 45, 600) * 4 - 8
    model.train()
    with torch.no_grad():
        model.scores(probe, torch.full((4,), 592))  # statistics of inner layers
    for name, value in model.network.named_parameters():
        if name.endswith(".start"):
            nn.init.normal_(value, 0.0, 0.2)  # what a gate's average begins with
    helpers = model.helpers.state_dict() if model.helpers else {}
    weights = model.network.state_dict()
    return Checkpoint(settings, weights, helpers, {}, RunProgress(1, 0, 10), [], {"train": "0" * 64}, versions())


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return make_checkpoint()


@pytest.fixture(scope="session")
def model_pt(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.pt"
    write_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def speech(corpus_root: Path) -> list[Window]:
    """Windows (1, 1, 45, 600) of real clips, both classes."""
    frontend = PRESETS["f0"]
    trials = open_corpus(corpus_root, "dev").trials
    windows = []
    for trial in (*trials[:8], *trials[-8:]):
        assert trial.path is not None
        frames = fill(frontend.frames(load(trial.path).samples), frontend.width)
        windows.append(np.ascontiguousarray(frames.T)[None, None])
    return windows
