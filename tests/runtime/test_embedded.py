"""The models that come along: whole, of this front-end, and with cards whose figures name their trials."""

import re
from contextlib import closing

import numpy as np
import pytest

from runtime.audio.features import PRESETS
from runtime.card.model_card import read_card
from runtime.engines.model_loader import DEFAULT, FILE_DEFAULT, MODELS, find_model, load_model
from runtime.multi_stream import StreamBatcher

FRONTENDS = {"accurate": "mel", "edge": "wide", "f0": "f0"}
NAMES = tuple(FRONTENDS)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_file_belong_together(name: str) -> None:
    card = read_card(find_model(name))
    assert card.frontend.with_level("none") == PRESETS[FRONTENDS[name]].with_level("none")
    assert card.precision == "int8" and card.target == "cpu"
    assert card.calibration is not None and "open=1" in card.calibration.partition
    assert (MODELS / f"{name}.onnx").stat().st_size < (12e6 if name == FILE_DEFAULT else 1e6)
    assert (card.state is not None) == (name == DEFAULT)


def test_the_default_for_files_is_the_best_on_development_trials() -> None:
    eers = {name: read_card(find_model(name)).accuracy.eer for name in NAMES}
    assert all(eer is not None for eer in eers.values())
    assert sorted(NAMES, key=lambda name: eers[name] or 1.0)[:2] == [FILE_DEFAULT, DEFAULT]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_what_its_figures_were_measured_on(name: str) -> None:
    """The figures belong to the trials that the card names, whatever corpus lies beside the repository."""
    card = read_card(find_model(name))
    accuracy, calibration, training = card.accuracy, card.calibration, card.training
    assert accuracy.measured and accuracy.partition is not None
    named = re.fullmatch(r"dev: \S+, ([\d,]+) of ([\d,]+) trials(?:, (\d+) windows of each)?", accuracy.partition)
    assert named is not None
    scored, listed, windows = (int((number or "1").replace(",", "")) for number in named.groups())
    assert accuracy.trials == scored and 0 < scored <= listed and windows > 0
    assert card.score.fitted_on == accuracy.partition and card.score.scale > 0
    assert np.isfinite([card.score.offset, card.score.threshold]).all()
    assert accuracy.eer is not None and 0 < accuracy.eer < 0.5
    assert accuracy.eer_float is not None and 0 < accuracy.eer_float < 0.5
    assert accuracy.eer_change_interval is not None
    low, high = accuracy.eer_change_interval
    assert low <= accuracy.eer - accuracy.eer_float <= high
    assert accuracy.correlation is not None and 0.98 <= accuracy.correlation <= 1
    assert training is not None and calibration is not None
    origins = {"edge": {"init", "average 1", "average 2"}}.get(name, set())  # checkpoints
    assert training.corpus.keys() == {"train", "dev"} | origins and training.corpus["train"] != training.corpus["dev"]
    assert all(re.fullmatch("[0-9a-f]{64}", identity) for identity in training.corpus.values())
    assert sum(calibration.classes.values()) == calibration.trials
    assert sum(calibration.attacks.values()) == calibration.classes["spoof"]


def test_streams_of_the_default_model_get_together_what_each_gets_alone() -> None:
    model = load_model(find_model(DEFAULT), "onnx")
    rng = np.random.default_rng(0)
    sounds = [(rng.standard_normal(32_000) * 0.05).astype(np.float32) for _ in range(17)]

    def scores(chosen: list[np.ndarray]) -> list[list[float]]:
        batcher = StreamBatcher(model.engine, model.card.frontend)
        streams = [batcher.create_stream() for _ in chosen]
        for stream, sound in zip(streams, chosen, strict=True):
            stream.accept_waveform(sound)
        batcher.decode_all(streams)
        return [[score.value for score in batcher.get_result(stream)] for stream in streams]

    with closing(model.engine):
        together = scores(sounds)
        alone = [scores([sound])[0] for sound in sounds]
        assert all(together) and together == alone  # bit for bit
