"""--init: training starts from the weights of a model.pt."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime.support.errors import ShrikeError
from tests.train.small_run import same, small_run, whole_and_resumed
from train.checkpoint import read_checkpoint, read_initial, write_checkpoint
from train.config import Data, Model, TrainConfig


@pytest.fixture(scope="module")
def trained(made_corpus: Path, made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    small_run(made_corpus, made_cache, out, epochs=1, seed=5).run()
    return out / "model.pt"


def test_a_run_starts_from_the_weights_and_resumes(
    trained: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    before = read_checkpoint(trained).weights
    start = small_run(made_corpus, made_cache, tmp_path / "start", init=trained)
    assert all(torch.equal(start.model.network.state_dict()[name], before[name]) for name in before)
    random = small_run(made_corpus, made_cache, tmp_path / "random")
    assert any(not torch.equal(random.model.network.state_dict()[name], before[name]) for name in before)

    whole, parted = whole_and_resumed(made_corpus, made_cache, tmp_path, init=trained)
    assert same(whole, parted)
    assert any(not torch.equal(whole.weights[name], before[name]) for name in before)

    other = tmp_path / "model.pt"
    write_checkpoint(other, replace(read_checkpoint(trained), history=[]))
    with pytest.raises(ShrikeError, match="init"):
        small_run(made_corpus, made_cache, tmp_path / "parted", init=other).resume(tmp_path / "parted" / "last.pt")
    other.unlink()
    trained_further = read_checkpoint(tmp_path / "whole" / "model.pt")  # needs no file that it started from
    assert trained_further.settings.model.init == trained


@pytest.mark.parametrize(
    "data, model, words",
    [
        ({}, {"width": 0.2}, "--width was 0.1, is 0.2"),
        ({"frontend": "wide"}, {}, "--frontend was f0, is wide"),
        ({"level": "window-mean"}, {}, "--level was none, is window-mean"),
        ({}, {"network": "senet18", "stem_stride": (2, 2)}, "--network was senet9, is senet18; --stem-stride"),
    ],
)
def test_another_network_or_front_end_is_named(
    trained: Path, tmp_path: Path, data: dict[str, str], model: dict[str, object], words: str
) -> None:
    options = {"network": "senet9", "width": 0.1, **model}
    settings = TrainConfig(Data(tmp_path, **data), Model(**options))  # type: ignore[arg-type]
    with pytest.raises(ShrikeError, match=words):
        read_initial(trained, settings)


def test_weights_do_not_come_back_to_a_fold_that_they_know(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ShrikeError, match="--leave-out"):
        TrainConfig(Data(tmp_path, leave_out="1/5"), Model(init=trained))


def test_encoder_weights_that_would_be_replaced_are_refused(trained: Path, tmp_path: Path) -> None:
    model = Model(network="encoder", init=trained, encoder_weights=trained)
    with pytest.raises(ShrikeError, match="--encoder-weights"):
        TrainConfig(Data(tmp_path, frontend="mel", level="window-max"), model)
