"""Sharpness: the rise is that of the definition, batches are equally large, and the command writes its report."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import sharpness
from benchmarks.report import read_report
from benchmarks.sharpness import Options, draw_batches, rise, spearman
from runtime.support.errors import ShrikeError
from tests.train.small_run import small_run

OPTIONS = Options(Path("m"), Path("c"), rho=0.1, bootstrap=200)


def test_the_rise_is_that_of_the_definition() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    features, target = torch.randn(8, 1, 2, 3), torch.tensor([0, 1] * 4)
    before = [weight.clone() for weight in network.parameters()]
    at_weights, rose = rise(network, features, target, OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    loss = nn.functional.cross_entropy(network(features), target)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    with torch.no_grad():
        for weight, gradient in zip(network.parameters(), gradients, strict=True):
            weight += 0.1 * gradient / length
        above = nn.functional.cross_entropy(network(features), target)
    assert at_weights == pytest.approx(float(loss.detach()), rel=1e-5)
    assert rose == pytest.approx(float((above - loss).detach()), rel=1e-3)


def test_batches_are_equally_large_and_use_no_spoof_twice() -> None:
    bonafide, spoof = np.arange(5), {"large": np.arange(10, 23), "small": np.arange(30, 34), "tiny": np.arange(40, 43)}
    drawn = draw_batches(bonafide, spoof, size=8, seed=0)
    assert {source: len(batches) for source, batches in drawn.items()} == {"large": 3, "small": 1, "tiny": 0}
    for source, batches in drawn.items():
        clips = [clip for row in batches for clip in row[:4].tolist()]
        assert len(set(clips)) == len(clips) and set(clips) <= set(spoof[source].tolist())
    counts = np.bincount(np.concatenate([row[4:] for batches in drawn.values() for row in batches]), minlength=5)
    assert len(counts) == 5 and np.ptp(counts) <= 1  # in turn


def test_rank_correlation_of_known_orders() -> None:
    rising = np.arange(5.0)
    assert spearman(rising, np.exp(rising)) == pytest.approx(1.0) and spearman(rising, -rising) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert spearman(np.array([1.0, 2, 2, 3]), rising[:4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert np.isnan(spearman(np.ones(4), rising[:4]))


def test_the_command_writes_its_report(
    made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(
        made_corpus, made_cache, tmp_path / "run", {"teacher": "average", "ship": "average"}, epochs=1, batch=12
    ).run()
    words = ["x", str(tmp_path / "run" / "model.pt"), "--corpus", str(made_corpus), "--cache", str(made_cache), "--by",
             "attack", "--threads", "1", "--bootstrap", "100", "--out", str(tmp_path / "report")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*words, "--batch", "6"])
    with pytest.raises(ShrikeError):  # no source has 3 spoofs
        sharpness.main()
    monkeypatch.setattr(sys, "argv", [*words, "--batch", "2"])
    sharpness.main()
    report = read_report(tmp_path / "report")
    rows = report.table("sources").records()
    assert [row["source"] for row in rows] == ["S00", "S01", "S02"] and all(row["batches"] == 2 for row in rows)


@pytest.mark.parametrize("wrong", [{"batch": 3}, {"rho": 0.0}, {"bootstrap": 0}])
def test_wrong_options_are_refused(wrong: dict[str, int | float]) -> None:
    with pytest.raises(ShrikeError):
        Options(Path("m"), Path("c"), **wrong)  # type: ignore[arg-type]
