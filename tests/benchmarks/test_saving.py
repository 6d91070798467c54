"""benchmarks.cascade on a made cascade: what it says of costs, shares and scores fits together."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import read_report
from runtime.card import read_card
from runtime.engines.cascade import open_cascade
from tests.runtime.made_cascade import made_cascade
from train.cache import build_cache
from train.corpus import open_corpus

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("low", "high", "share"), [(None, None, 100.0), (0.0, 0.0, 40.0), (-0.3, 0.1, None)])
def test_costs_and_shares_fit(
    made_corpus: Path, made_cache: Path, tmp_path: Path, low: float | None, high: float | None, share: float | None
) -> None:
    path = made_cascade(tmp_path / "door", low, high)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cascade", str(path), "--corpus", str(made_corpus), "--partition", "eval",
         "--seconds", "0.05", "--bootstrap", "20", "--cache", str(made_cache), "--out", str(tmp_path / "report")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "report")
    (row,) = report.table("cascade").records()
    exits = report.table("exits").records()
    for name in ("bona fide", "spoof"):
        assert sum(exit[name] for exit in exits) == pytest.approx(100)
    mean = sum(exit["cost"] * (exit["bona fide"] + exit["spoof"]) / 200 for exit in exits)
    assert row["multiply-adds"] == pytest.approx(mean)
    assert row["whole"].value > 0 and row["cascade"].value > 0
    if share is not None:
        assert row["multiply-adds"] == pytest.approx(share)
    if share == 100.0:  # nothing stops: the same scores
        assert row["EER"] == row["EER whole"] and row["Cllr"] == row["Cllr whole"]
    engine, card = open_cascade(path), read_card(path)
    trials = open_corpus(made_corpus, "eval").trials
    cache = build_cache(card.frontend, trials, made_cache)
    for clip in range(len(cache)):
        engine(np.ascontiguousarray(cache.window(clip).T, np.float32)[None, None])
    assert engine.decided[2] / len(cache) == pytest.approx((exits[0]["bona fide"] + exits[0]["spoof"]) / 200)
