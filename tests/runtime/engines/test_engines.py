"""Engines: one way to open them, and what they refuse."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.card.model_card import read_card, write_card
from runtime.engines import open_engine
from runtime.engines.onnx import OnnxEngine, open_onnx
from runtime.support.errors import ShrikeError
from tests.export.small import SHAPE, exported, float_graph, windows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("one"), float_graph("ecanet9"))


def test_a_window_goes_in_and_logits_come_out(model: Path) -> None:
    engine = open_engine(model)
    assert (engine.name, engine.precision) == ("ecanet9-x0.25", "fp32")
    many = np.concatenate(list(windows(3)))
    logits = engine(many)
    assert logits.shape == (3, 2) and logits.dtype == np.float32
    assert np.array_equal(engine(many[1:2]), logits[1:2])  # this graph takes one at a time
    assert engine(many[:0]).shape == (0, 2)
    engine.close()
    engine.close()
    with pytest.raises(ShrikeError, match="was closed"):
        engine(many)


def test_a_view_into_a_longer_ring_is_enough(model: Path) -> None:
    """The runtime hands over its newest 600 frames as they lie in the ring, bands by frames."""
    ring = np.random.default_rng(0).normal(-8, 4, (45, 1200)).astype(np.float32)
    view = ring[None, None, :, 17:617]
    with open_onnx(model) as engine:
        assert np.array_equal(engine(view), engine(view.copy()))


def test_a_dynamic_batch_gives_what_single_windows_give(tmp_path: Path) -> None:
    path = exported(tmp_path, float_graph("ecanet9", dynamic=True))
    many = np.concatenate(list(windows(4)))
    with open_onnx(path) as engine:
        together = engine(many)
        assert engine.card.input.shape[0] == -1
        assert np.allclose(together, np.concatenate([engine(window[None]) for window in many]), atol=1e-5)


@pytest.mark.parametrize(
    "features",
    [np.zeros((1, 1, 60, 600), np.float32), np.zeros((1, 45, 600), np.float32), np.zeros(SHAPE, np.float64)],
    ids=["wide", "no channel", "float64"],
)
def test_other_features_are_refused_in_a_sentence(model: Path, features: np.ndarray) -> None:
    with open_onnx(model) as engine, pytest.raises(ShrikeError, match="front-end"):
        engine(features)


def test_what_is_no_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ShrikeError, match=str(tmp_path / "model.onnx")):
        open_engine(tmp_path / "model.onnx")
    with pytest.raises(ShrikeError, match=str(tmp_path / "model.pt")):
        open_engine(tmp_path / "model.pt")
    shutil.copy(model, tmp_path / "model.onnx")
    with pytest.raises(ShrikeError, match=r"model\.json"):
        open_engine(tmp_path / "model.onnx")
    (tmp_path / "model.json").write_bytes(model.with_suffix(".json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"changed")
    with pytest.raises(ShrikeError, match="sha256"):
        open_engine(tmp_path / "model.onnx")


def test_a_graph_that_does_not_load_or_fit_is_one_sentence(model: Path) -> None:
    card = read_card(model)
    with pytest.raises(ShrikeError):
        OnnxEngine(b"no graph", card)
    with pytest.raises(ShrikeError):
        OnnxEngine(b"", card)
    other = float_graph("ecanet9", level="window-mean")
    assert OnnxEngine(other.SerializeToString(), card)  # the same ports
    renamed = type(other)()
    renamed.CopyFrom(other)
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "sound"
    with pytest.raises(ShrikeError):
        OnnxEngine(renamed.SerializeToString(), card)
    with pytest.raises(ShrikeError, match="threads"):
        OnnxEngine(model.read_bytes(), card, threads=-1)
    assert write_card(model, card)
