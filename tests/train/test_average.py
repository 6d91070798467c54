"""python -m train.average: the mean of checkpoints."""

import sys
from pathlib import Path

import pytest
import torch

from runtime.card.checksums import sha256_file
from runtime.support.errors import ShrikeError
from tests.train.small_run import small_run
from train.average import main
from train.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def two(made_corpus: Path, made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the same after more training."""
    folder = tmp_path_factory.mktemp("two")
    small_run(made_corpus, made_cache, folder / "first", epochs=1).run()
    first = folder / "first" / "model.pt"
    small_run(made_corpus, made_cache, folder / "second", init=first, epochs=1, seed=3).run()
    return first, folder / "second" / "last.pt"


def averaged(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train.average", *map(str, words)])
    main()


def test_every_weight_is_the_mean(two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "model.pt"
    averaged(monkeypatch, *two, "--out", out)
    made, first, second = (read_checkpoint(path) for path in (out, *two))
    for part in ("weights", "helpers"):
        for name, value in getattr(made, part).items():
            one, other = getattr(first, part)[name], getattr(second, part)[name]
            wanted = (one + other) / 2 if value.is_floating_point() else other
            assert torch.allclose(value, wanted, rtol=1e-6, atol=1e-7), name
    assert any(not torch.equal(made.weights[name], second.weights[name]) for name in made.weights)
    assert made.settings == second.settings and not made.history and not made.optimiser
    origins = {"average 1": sha256_file(two[0]), "average 2": sha256_file(two[1])}
    assert made.corpus == {**second.corpus, **origins}
    assert made.network()(torch.zeros(1, 1, 45, 600)).shape == (1, 2)
    with pytest.raises(ShrikeError, match="exists"):
        averaged(monkeypatch, *two, "--out", out)


def test_an_average_of_fewer_keeps_no_older_origin(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, again = tmp_path / "three.pt", tmp_path / "again.pt"
    averaged(monkeypatch, *two, two[1], "--out", three)
    averaged(monkeypatch, two[0], three, "--out", again)
    origins = {name: value for name, value in read_checkpoint(again).corpus.items() if name.startswith("average")}
    assert origins == {"average 1": sha256_file(two[0]), "average 2": sha256_file(three)}


def test_other_networks_are_refused(
    two: tuple[Path, Path], made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(made_corpus, made_cache, tmp_path / "other", {"loss": "crossentropy"}, epochs=1).run()
    for models, words in (
        ((two[0],), "two checkpoints or more"),
        ((two[0], tmp_path / "other" / "model.pt"), "--loss was asoftmax, is crossentropy"),
    ):
        with pytest.raises(ShrikeError, match=words):
            averaged(monkeypatch, *models, "--out", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
