"""The float checkpoints in train/models, and the embedded models exported from them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.streaming_eval import by_steps
from export.verify import LEAST_CORRELATION, Trials
from runtime.card.model_card import read_card
from runtime.engines import as_streaming, open_engine
from runtime.engines.model_loader import find_model
from train.augment.features import Augment
from train.checkpoint import read_checkpoint
from train.data.cache import build_cache
from train.data.corpus import open_corpus, select
from train.device import ComputeDevice
from train.evaluate.scoring import score_cache

MODELS = Path(__file__).resolve().parents[2] / "train" / "models"
TRAINED_ON = {"f0": {"asvspoof": ""}, "edge": {"corpus": "open=1", "asvspoof": ""}}  # corpora, and what of them
COPIES = {"f0": (), "edge": ("lyra", "lpc")}  # vocoders, by train.vocode, of the first corpus's real clips
CLIPS = 40  # of dev, evenly spaced: enough for a correlation


@pytest.mark.parametrize("name, corpora", TRAINED_ON.items())
def test_a_checkpoint_was_trained_on_open_clips(name: str, corpora: dict[str, str], corpus_root: Path) -> None:
    if missing := [folder for folder in corpora if not (corpus_root.parent / folder).is_dir()]:
        pytest.skip(f"needs {missing[0]} beside the corpus")
    parts = [select(open_corpus(corpus_root.parent / folder, "train"), only) for folder, only in corpora.items()]
    real = [trial for trial in parts[0].trials if trial.bonafide]
    copies = [
        replace(trial, utterance=f"{trial.utterance}__{vocoder}", attack=vocoder, bonafide=False)
        for vocoder in COPIES[name]
        for trial in real
    ]
    joined = replace(parts[0], trials=(*(trial for part in parts for trial in part.trials), *copies))
    assert read_checkpoint(MODELS / f"{name}.pt").corpus["train"] == joined.identity()


@pytest.mark.parametrize("name", TRAINED_ON)
def test_a_checkpoint_has_its_front_end_and_is_small(name: str) -> None:
    path = MODELS / f"{name}.pt"
    checkpoint = read_checkpoint(path)
    assert checkpoint.settings.data.frontend == {"edge": "wide"}.get(name, name)
    assert checkpoint.optimiser == {} and path.stat().st_size < 10e6


@pytest.mark.parametrize("name", TRAINED_ON)
def test_a_checkpoint_identifies_what_it_was_made_of(name: str) -> None:
    """f0 is the best epoch of its history; edge is the mean of a model and its fine-tuned form, so no epoch is."""
    checkpoint = read_checkpoint(MODELS / f"{name}.pt")
    origins = {"edge": {"init", "average 1", "average 2"}}.get(name, set())
    assert checkpoint.corpus.keys() == {"train", "dev"} | origins
    assert all(re.fullmatch("[0-9a-f]{64}", identity) for identity in checkpoint.corpus.values())
    eers = [entry["dev_eer"] for entry in checkpoint.history]
    assert bool(eers) == (name == "f0")
    if eers:
        assert [entry["epoch"] for entry in checkpoint.history] == list(range(1, checkpoint.progress.epoch + 1))
        assert all(0 < eer < 0.5 for eer in eers) and eers[-1] == min(eers)


@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_embedded_model_is_the_checkpoint_in_int8(name: str, corpus_root: Path, tmp_path: Path) -> None:
    """Same trials by their cards, and the same scores on real speech, as closely as the exporter wants it."""
    checkpoint, card = read_checkpoint(MODELS / f"{name}.pt"), read_card(find_model(name))
    assert card.training is not None and card.training.corpus == checkpoint.corpus
    settings, trials = checkpoint.settings, open_corpus(corpus_root, "dev").trials
    some = trials[:: max(1, len(trials) // CLIPS)]
    cache = build_cache(settings.frontend, some, tmp_path, processes=1, quiet=True)
    augment, compute = Augment(settings.augmentation, settings.frontend), ComputeDevice(torch.device("cpu"), False)
    before = score_cache(checkpoint.distillation_model(), augment, cache, settings, compute)[:, -1]
    engine = open_engine(find_model(name))
    streaming = as_streaming(engine)
    trials_scored = Trials("dev", cache, 1, streaming.state.frames if streaming else None)
    after = trials_scored.scores(by_steps(engine))
    engine.close()
    assert len(before) >= CLIPS and np.corrcoef(before, after)[0, 1] > LEAST_CORRELATION
    assert np.abs(after - before).max() < 0.5 * before.std()
