"""The load generator: lateness is what it is made to be, and what cannot hold does not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import streams
from benchmarks.load import bear, memory, speed
from benchmarks.report import read_report
from benchmarks.speech import voice
from benchmarks.streams import find_largest
from runtime.engines.model_loader import LoadedModel, load_model
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps

SOUNDS = [voice(8.0, seed) for seed in range(2)]


@pytest.fixture(params=["steps", "windows"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoadedModel]:
    path = made_steps(tmp_path) if request.param == "steps" else made_model(tmp_path)
    found = load_model(path, "onnx")
    yield found
    found.engine.close()


class Slow:
    """Every call takes so long."""

    def __init__(self, engine: Any, seconds: float) -> None:
        self.engine, self.seconds = engine, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def batch_buffers(self, count: int) -> Any:
        buffers = self.engine.batch_buffers(count)
        run = buffers.run
        buffers.run = lambda count: (time.sleep(self.seconds), run(count))[1]
        return buffers

    def __call__(self, features: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        return self.engine(features)


def test_every_stream_is_scored_every_step(chosen: LoadedModel) -> None:
    load = bear(chosen.engine, chosen.card, SOUNDS, streams=4, seconds=1.0)
    expected = 4 * 1.0 / load.interval
    assert load.kept_up and expected - 8 <= len(load.late_ms) <= expected + 8
    assert min(load.late_ms) >= 0 and 0 < load.cpu < 1.5


def test_what_a_call_takes_is_what_a_score_is_late(chosen: LoadedModel) -> None:
    load = bear(Slow(chosen.engine, 0.03), chosen.card, SOUNDS, streams=1, seconds=1.0)  # type: ignore[arg-type]
    assert load.percentile(50) >= 30


def test_what_is_too_slow_does_not_hold(chosen: LoadedModel) -> None:
    slow = Slow(chosen.engine, 0.4)
    load = bear(slow, chosen.card, SOUNDS, streams=2, seconds=1.0)  # type: ignore[arg-type]
    assert not load.holds


def test_speed_and_memory_are_found(chosen: LoadedModel) -> None:
    assert speed(chosen.engine, chosen.card, SOUNDS, None, None) > 1
    taken = memory(chosen.engine, chosen.card, SOUNDS, None)
    if taken is not None:
        assert 2_000 < taken < 600_000


@pytest.mark.parametrize("truth", [0, 1, 7, 90, 200, 1000])
@pytest.mark.parametrize("guess", [1.0, 100.0, 250.0])
def test_the_largest_number_is_found_to_five_percent(truth: int, guess: float) -> None:
    tried: list[int] = []

    def holds(count: int) -> bool:
        tried.append(count)
        return count <= truth

    assert truth - max(1, 0.06 * truth) <= find_largest(holds, guess) <= truth
    assert min(tried) >= 1 and len(set(tried)) == len(tried)


def test_the_command_leaves_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = made_steps(tmp_path / "model"), tmp_path / "report"
    words = ["benchmarks.streams", str(model), "--streams", "2", "4", "--seconds", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    assert streams.main() == 0
    report = read_report(out)
    assert [table.name for table in report.tables] == ["largest", "load"]
    (row,) = report.table("largest").records()
    assert row["given"] == "16 frames" and row["largest"] is None and row["state"] == pytest.approx(1.665)
    assert [row["streams"] for row in report.table("load").records()] == [2, 4]
