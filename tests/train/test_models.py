"""The trained models that are kept for the exporter are what they say."""

from pathlib import Path

import pytest
import torch

from train.augment.features import Augment
from train.checkpoint import read_checkpoint
from train.data.cache import build_cache
from train.data.corpus import open_corpus
from train.device import Place
from train.evaluate import metrics
from train.evaluate.evaluate import score

MODELS = Path(__file__).resolve().parents[2] / "train" / "models"


@pytest.mark.parametrize("name", ["f0", "wide"])
def test_a_kept_model_was_trained_on_open_clips_and_is_small(name: str) -> None:
    path = MODELS / f"{name}.pt"
    checkpoint = read_checkpoint(path)
    assert checkpoint.settings.data.frontend == name
    assert checkpoint.settings.data.only == "open=1"
    assert checkpoint.optimiser == {} and path.stat().st_size < 10e6


@pytest.mark.long
@pytest.mark.parametrize("name", ["f0", "wide"])
def test_a_kept_model_has_the_dev_eer_of_its_history(name: str, corpus_root: Path, tmp_path: Path) -> None:
    """Trained in bf16, scored here in float32: a clip or two may change sides."""
    checkpoint = read_checkpoint(MODELS / f"{name}.pt")
    settings, dev = checkpoint.settings, open_corpus(corpus_root, "dev")
    assert checkpoint.corpus["dev"] == dev.identity()
    cache = build_cache(settings.frontend, dev.trials, tmp_path, quiet=True)
    augment = Augment(settings.augmentation, settings.frontend)
    scores = score(checkpoint.classroom(), augment, cache, settings, Place(torch.device("cpu"), False))[:, -1]
    labels = cache.labels
    eer = metrics.eer(scores[labels == 1], scores[labels == 0])
    assert eer == pytest.approx(checkpoint.history[-1]["dev_eer"], abs=0.015)
