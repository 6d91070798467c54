"""The models that come along: whole, of this front-end, and as good as their cards say."""

import re
from pathlib import Path

import numpy as np
import pytest

from runtime.audio.decode import load
from runtime.audio.features import PRESETS, FrontEnd
from runtime.card.model_card import read_card
from runtime.engines import open_engine
from runtime.engines.model_loader import DEFAULT, MODELS, find_model

NAMES = ("f0", "wide")


@pytest.mark.parametrize("name", NAMES)
def test_card_and_file_belong_together(name: str) -> None:
    card = read_card(find_model(name))
    frontend = FrontEnd.from_dict(card.frontend.to_dict())
    assert frontend.with_level("none") == PRESETS[name]
    assert card.precision == "int8" and card.target == "cpu"
    assert card.training is not None and card.training.settings["only"] == "open=1"
    assert (MODELS / f"{name}.onnx").stat().st_size < 1e6


def test_the_default_is_the_one_that_is_better_on_development_trials() -> None:
    eers = {name: read_card(find_model(name)).accuracy.eer for name in NAMES}
    assert all(eer is not None for eer in eers.values())
    assert min(NAMES, key=lambda name: eers[name] or 1.0) == DEFAULT


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_dev_eer_is_the_cards(name: str, corpus_root: Path) -> None:
    """On exact features; the card's were kept in half precision, so a few windows may change sides."""
    card = read_card(find_model(name))
    assert card.accuracy.partition is not None
    (count,) = re.findall(r"(\d+) windows of each", card.accuracy.partition)
    engine, frontend = open_engine(find_model(name)), PRESETS[name]
    scores, labels = [], []
    for line in (corpus_root / "protocols" / "dev.txt").read_text().splitlines():
        _, utterance, _, _, key = line.split()
        frames = frontend.frames(load(corpus_root / "flac" / f"{utterance}.flac").samples)
        starts = len(frames) - frontend.width if len(frames) > frontend.width else len(frames)
        for number in range(int(count)):
            # A clip that is shorter than the window repeats itself.
            place = (starts * number // int(count) + np.arange(frontend.width)) % len(frames)
            logits = engine(np.ascontiguousarray(frames[place].T)[None, None])
            scores.append(float(logits[0, 1] - logits[0, 0]))
            labels.append(key == "bonafide")
    engine.close()
    order = np.argsort(scores)
    missed = np.cumsum(np.array(labels)[order]) / sum(labels)
    accepted = 1 - np.cumsum(~np.array(labels)[order]) / (len(labels) - sum(labels))
    closest = np.argmin(np.abs(missed - accepted))
    assert (missed[closest] + accepted[closest]) / 2 == pytest.approx(card.accuracy.eer, abs=0.005)
