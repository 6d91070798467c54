"""Streaming: every sample is accounted for, and an engine that is too slow loses sound or does not hold."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import read_report
from benchmarks.stream import __main__ as command
from benchmarks.stream.endurance import endure, missing_verdicts, slope
from benchmarks.stream.load import bear, find_largest, speed
from benchmarks.stream.realtime import from_file, in_real_time, sound
from runtime.audio.features import RATE
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps

MINUTES = float(os.environ.get("SHRIKE_STREAM_MINUTES", "2"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(path: Path) -> Iterator[LoadedModel]:
    found = load_model(path, "onnx")
    yield found
    found.engine.close()


class Slow:
    """An engine that waits before every call."""

    def __init__(self, engine: Any, seconds: float) -> None:
        self.engine, self.seconds = engine, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        logits: np.ndarray = self.engine(features)
        return logits


def test_every_sample_is_accounted_for_in_real_time(model: LoadedModel) -> None:
    run = in_real_time(model, sound(None, 3.0), 3.0, rate=48_000, step=24)
    assert run.sent == pytest.approx(3.0)
    assert run.summary.seconds + run.lost + run.unscored == pytest.approx(run.sent)
    assert len(run.spoken_ms) == len(run.arrived_ms) > 0
    # A sample is spoken before its block is delivered.
    assert all(spoken > arrived >= 0 for spoken, arrived in zip(run.spoken_ms, run.arrived_ms, strict=True))


def test_a_slow_engine_loses_sound_and_every_lost_sample_is_counted(model: LoadedModel) -> None:
    slow: Any = Slow(model.engine, 0.5)
    run = in_real_time(replace(model, engine=slow), sound(None, 5.0), 5.0, rate=RATE, step=12)  # due every 0.0975 s
    assert run.lost > 0 and run.summary.gaps > 0 and command.notes({"slow": run}, None)
    assert run.summary.seconds + run.lost + run.unscored == pytest.approx(run.sent)


def test_a_microphone_scores_as_a_file_does(model: LoadedModel) -> None:
    samples = np.round(sound(None, 5.0) * 32767).astype(np.float32) / 32768
    run = in_real_time(model, samples, 5.0, rate=RATE)
    fast, cost = from_file(model, samples)
    scorer = StreamScorer(model.engine, model.card.frontend)
    assert run.summary.score in [score.value for score in scorer.push(samples)] and fast > 0 and cost.core > 0


def test_minutes_of_sound_are_scored_completely(path: Path) -> None:
    run = endure(path, sound(None, 30.0), MINUTES / 60, step=60)
    assert run.complete and run.sent == run.scored == round(60 * MINUTES * RATE)
    assert (np.diff(run.hours) > 0).all() and run.hours[-1] <= MINUTES / 60
    if len(run.memory):
        late = run.memory[run.hours >= 0.5 * run.hours[-1]]
        assert np.ptp(late) < 8  # MB


def test_missing_verdicts_are_counted() -> None:
    interval = 0.0975
    times = np.round(1.0 + interval * np.arange(100), 4)
    seconds = times[-1] + 0.5 * interval
    assert missing_verdicts(times, interval, seconds) == 0
    assert missing_verdicts(np.delete(times, slice(20, 40)), interval, seconds) == 20
    assert missing_verdicts(times[:-3], interval, seconds) == 3
    assert missing_verdicts(np.insert(times, 7, times[7]), interval, seconds) == 1  # one came twice
    assert missing_verdicts(times[:0], interval, seconds) > 0


def test_a_slope_is_found_with_its_interval_after_settling() -> None:
    rng, hours, inside = np.random.default_rng(5), np.linspace(0, 24, 400), 0
    for _ in range(200):
        found = slope(hours, 80 - 20 * np.exp(-hours / 0.1) + 0.05 * hours + rng.normal(0, 0.3, 400))
        assert found is not None and found.low is not None and found.high is not None
        inside += found.low <= 0.05 <= found.high
    assert 180 <= inside <= 199  # 190 are expected
    level = slope(hours, np.full(400, 80.0))
    assert level is not None and abs(level.value) < 1e-9
    assert slope(hours / 100, 80 + hours) is None and slope(np.zeros(0), np.zeros(0)) is None


# ---- many streams

SOUNDS = [sound(None, 10.0, seed) for seed in range(2)]


@pytest.mark.parametrize("kind", ["steps", "windows"])
def test_every_stream_is_scored_every_step(tmp_path: Path, kind: str) -> None:
    made = load_model(made_steps(tmp_path) if kind == "steps" else made_model(tmp_path), "onnx")
    load = bear(made, SOUNDS, streams=4, seconds=1.0)
    assert load.kept_up and abs(len(load.late_ms) - 4 * 1.0 / load.interval) <= 4 and min(load.late_ms) >= 0
    assert speed(made, SOUNDS) > 1
    made.engine.close()


def test_a_slow_engine_does_not_hold(model: LoadedModel) -> None:
    slow: Any = Slow(model.engine, 0.4)
    assert not bear(replace(model, engine=slow), SOUNDS, streams=2, seconds=1.0).holds


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 40, 100])
def test_the_largest_number_is_found(limit: int) -> None:
    for guess in (1.0, 10.0, 90.0):
        found = find_largest(lambda streams: streams <= limit, guess)
        assert limit - max(1, 0.05 * limit) <= found <= limit


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 1.0}, {"load": -1}, {"rounds": 0}, {"streams": (0,)}, {"streams": (2, 2)}, {"models": ("f0", "wide")},
     {"models": ("f0", "f0"), "streams": (1,)}, {"hours": 1.0, "streams": (1,)}],
)  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ShrikeError):
        command.Options(**wrong)


@pytest.mark.parametrize(
    ("words", "tables"),
    [(("--rounds", "1", "--load", "0", "--hours", "0.005"), ["speed", "real-time", "hours"]),
     (("--streams", "2"), ["largest", "load"])],
)  # fmt: skip
def test_the_command_writes_its_report(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], tables: list[str]
) -> None:
    out = tmp_path / "report"
    monkeypatch.setattr(sys, "argv", ["x", str(path), "--seconds", "2", *words, "--out", str(out)])
    assert command.main() == 0
    report = read_report(out)
    assert [table.name for table in report.tables] == tables and report.command.startswith(
        "python -m benchmarks.stream "
    )
    assert all((out / plot.file).is_file() for plot in report.plots)
