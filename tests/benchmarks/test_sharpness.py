"""benchmarks.sharpness: the loss rises by what it rises, all sources are treated alike, and the report can be read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.landscape import Landscape, Rise, bootstrap_spearman, draw_batches, random_direction, spearman
from benchmarks.report import Measured, read_report
from benchmarks.sharpness import Options
from benchmarks.sharpness_report import correlation, mean_of
from runtime.support.errors import ShrikeError
from tests.train.small_run import small_run

OPTIONS = Options(Path("model.pt"), Path("corpus"), bootstrap=200)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).train()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 1, 3, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 0, 1, 1, 0])


def test_the_rise_is_measured_where_the_gradient_points() -> None:
    net, (features, target) = network(), batch()
    before = [value.clone() for value in net.state_dict().values()]
    rise = Landscape(net, rho=0.1).rise(features, target)
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values(), strict=True))
    loss = nn.functional.cross_entropy(net(features), target)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    length = torch.sqrt(sum((g**2).sum() for g in gradients))  # type: ignore[arg-type]
    with torch.no_grad():
        for weight, gradient in zip(net.parameters(), gradients, strict=True):
            weight += 0.1 * gradient / length
        above = nn.functional.cross_entropy(net(features), target)
    assert rise.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert rise.ascent == pytest.approx(float((above - loss).detach()), rel=1e-3)
    assert rise.ascent == pytest.approx(0.1 * float(length), rel=0.2)  # in a small ball it is rho |g|
    assert rise.ascent > rise.largest >= rise.mean


def test_random_directions_are_as_long_as_the_ball_and_follow_the_filters() -> None:
    weights = [torch.full((3, 2), 1.0), torch.tensor([5.0, 5.0]), torch.cat([torch.zeros(1, 4), torch.ones(1, 4)])]
    one, other = (random_direction(weights, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert float(torch.cat([step.flatten() for step in one]).norm()) == pytest.approx(0.5)
    assert not one[1].any() and not one[2][0].any()  # what has one dimension, and a filter of zeros
    ratios = torch.cat([one[0].norm(dim=1) / 2**0.5, one[2][1:].norm(dim=1) / 2])
    assert torch.allclose(ratios, ratios[0].expand(4))
    assert not torch.equal(one[0], other[0])


def test_batches_are_equally_large_and_use_no_spoof_twice() -> None:
    bonafide, spoof = np.arange(5), {"large": np.arange(10, 23), "small": np.arange(30, 34), "tiny": np.arange(40, 43)}
    drawn = draw_batches(bonafide, spoof, size=8, seed=0)
    assert {source: len(batches) for source, batches in drawn.items()} == {"large": 3, "small": 1, "tiny": 0}
    for source, batches in drawn.items():
        clips = np.concatenate([row[:4] for row in batches]) if batches else np.array([], int)
        assert len(set(clips.tolist())) == len(clips) and set(clips.tolist()) <= set(spoof[source].tolist())
    real = np.concatenate([row[4:] for batches in drawn.values() for row in batches])
    counts = np.bincount(real, minlength=5)
    assert len(counts) == 5 and counts.max() - counts.min() <= 1  # in turn
    again = draw_batches(bonafide, spoof, size=8, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(drawn["large"], again["large"], strict=True))


def test_rank_correlation_of_known_orders() -> None:
    rising = np.arange(5.0)
    assert spearman(rising, np.exp(rising)) == pytest.approx(1.0) and spearman(rising, -rising) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert spearman(np.array([1.0, 2, 2, 3]), rising[:4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert np.isnan(spearman(np.ones(4), rising[:4]))


def test_an_interval_of_the_correlation_holds_certainty_and_doubt() -> None:
    levels = [np.array([value, value + 0.1]) for value in range(8)]
    sure = bootstrap_spearman(levels, levels, 200)
    assert sure.min() > 0.9
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=5) for _ in range(8)]
    low, high = np.percentile(bootstrap_spearman(levels, noise, 200), (2.5, 97.5))
    assert high - low > 0.5


def test_too_few_sources_or_batches_give_no_interval() -> None:
    rises = [Rise(0.5, value, 0.0, 0.0) for value in (0.1, 0.3)]
    rows = [{"sharpness": Measured(float(k)), "EER": Measured(float(k))} for k in range(4)]
    eers = [np.full(10, float(k)) for k in range(4)]
    found = correlation(rows, [rises] * 4, eers, OPTIONS)
    assert found is not None and found.value == pytest.approx(1.0)
    assert correlation(rows[:3], [rises] * 3, eers[:3], OPTIONS) is None
    assert mean_of([0.2], OPTIONS) == Measured(0.2, rounds=(0.2,))
    several = mean_of([0.1, 0.2, 0.6], OPTIONS)
    assert several.low is not None and several.high is not None and several.low < several.value < several.high


@pytest.fixture(scope="module")
def model(made_corpus: Path, made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharpness") / "run"
    small_run(made_corpus, made_cache, out, {"teacher": "average", "ship": "average"}, epochs=1, batch=12).run()
    return out / "model.pt"


def command(*arguments: Path | str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sharpness", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done


def test_the_command_leaves_a_report(model: Path, made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    usual = [model, "--corpus", made_corpus, "--cache", made_cache, "--by", "attack", "--threads", "1"]
    done = command(*usual, "--batch", "2", "--bootstrap", "100", "--out", out)
    report = read_report(out)
    rows = report.table("sources").records()
    assert [row["source"] for row in rows] == ["S00", "S01", "S02"] and all(row["batches"] == 2 for row in rows)
    overall = report.table("overall").records()[0]
    assert overall["rank correlation"] is None and overall["spoofs"] == 6 and "sharpness" in done.stdout
    assert (out / "sharpness.png").read_bytes()[:4] == b"\x89PNG"
    said = command(*usual, "--batch", "6", "--out", tmp_path / "none", code=2).stderr
    assert "no source has 3 spoofs" in said and not (tmp_path / "none").exists()


def test_odd_options_are_refused() -> None:
    for wrong in ({"batch": 3}, {"rho": 0.0}, {"directions": 0}, {"bootstrap": 0}):
        with pytest.raises(ShrikeError, match=f"--{next(iter(wrong))}"):
            Options(Path("m"), Path("c"), **wrong)  # type: ignore[arg-type]
