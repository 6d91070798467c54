"""Streaming: every sample is accounted for, and an engine that is too slow loses sound or does not hold."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.accuracy.trials import open_trials
from benchmarks.report import read_report
from benchmarks.stream import __main__ as command
from benchmarks.stream import alarms
from benchmarks.stream.alarms import SURE, alarm_rows, judge, raise_alarms, states, verdicts_of
from benchmarks.stream.load import bear, speed
from benchmarks.stream.mixture import Turn, by_source, compose
from benchmarks.stream.one_stream import Counter, endure, notes, slope
from benchmarks.stream.realtime import in_real_time, sound
from runtime.audio.features import RATE
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.scorer import StreamScorer
from runtime.sinks import StreamInfo
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps
from train.progress import Progress

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
    run = in_real_time(model, sound((), 3.0), 3.0, rate=48_000, step=24)
    assert run.sent == pytest.approx(3.0)
    assert run.summary.seconds + run.summary.lost + run.unscored == pytest.approx(run.sent)
    assert len(run.spoken_ms) == len(run.arrived_ms) > 0
    # A sample is spoken before its block is delivered.
    assert all(spoken > arrived >= 0 for spoken, arrived in zip(run.spoken_ms, run.arrived_ms, strict=True))


def test_a_slow_engine_loses_sound_and_every_lost_sample_is_counted(model: LoadedModel) -> None:
    slow: Any = Slow(model.engine, 0.5)
    run = in_real_time(replace(model, engine=slow), sound((), 5.0), 5.0, rate=RATE, step=12)  # due every 0.0975 s
    assert run.summary.lost > 0 and run.summary.gaps > 0 and notes({"slow": run}, None)
    assert run.summary.seconds + run.summary.lost + run.unscored == pytest.approx(run.sent)


def test_a_microphone_scores_as_a_file_does(model: LoadedModel) -> None:
    samples = np.round(sound((), 5.0) * 32767).astype(np.float32) / 32768
    run = in_real_time(model, samples, 5.0, rate=RATE)
    scorer = StreamScorer(model.engine, model.card.frontend)
    assert run.summary.score in [score.value for score in scorer.push(samples)]


def test_minutes_of_sound_are_scored_completely(model: LoadedModel) -> None:
    run = endure(model, sound((), 30.0), MINUTES / 60, step=60)
    assert run.complete and run.sent == run.scored == round(60 * MINUTES * RATE) and run.verdicts > 0
    hours, memory = run.readings.T
    assert (np.diff(hours) > 0).all() and hours.max(initial=0) <= MINUTES / 60
    assert np.ptp(memory[hours >= 0.5 * hours.max(initial=0)]) < 8  # MB


def test_missing_verdicts_are_counted() -> None:
    interval = 0.0975
    times = np.round(1.0 + interval * np.arange(100), 4)
    seconds = times[-1] + 0.5 * interval

    def missing(times: np.ndarray) -> int:
        counter, given = Counter(seconds, Progress("", 1, "", silent=True)), SimpleNamespace(interval=interval)
        counter.begin(cast(StreamInfo, given))
        for at in times.tolist():
            counter.verdict(cast(Verdict, SimpleNamespace(time=at)), None)
        return counter.missing

    assert missing(times) == 0
    assert missing(np.delete(times, slice(20, 40))) == 20
    assert missing(times[:-3]) == 3
    assert missing(np.insert(times, 7, times[7])) == 1  # one came twice
    assert missing(times[:0]) > 0


def test_a_slope_is_found_with_its_interval_after_settling() -> None:
    rng, hours, inside = np.random.default_rng(5), np.linspace(0, 24, 400), 0
    for _ in range(200):
        memory = 80 - 20 * np.exp(-hours / 0.1) + 0.05 * hours + rng.normal(0, 0.3, 400)
        found = slope(np.stack([hours, memory], axis=1))
        assert found is not None and found.low is not None and found.high is not None
        inside += found.low <= 0.05 <= found.high
    assert 180 <= inside <= 199  # 190 are expected
    level = slope(np.stack([hours, np.full(400, 80.0)], axis=1))
    assert level is not None and abs(level.value) < 1e-9
    assert slope(np.stack([hours / 100, 80 + hours], axis=1)) is None and slope(np.zeros((0, 2))) is None


# ---- many streams

SOUNDS = [sound((), 10.0, seed) for seed in range(2)]


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


# ---- alarms


def test_a_mixture_is_reproducible_and_holds_its_passages(made_corpus: Path) -> None:
    clips = by_source(open_trials([made_corpus], "train"))
    samples, passages = compose(clips, 60.0, seed=1, number=2)
    again, same = compose(clips, 60.0, seed=1, number=2)
    assert np.array_equal(samples, again) and passages == same and len(samples) >= 60 * RATE
    assert not np.array_equal(samples[: 10 * RATE], compose(clips, 60.0, seed=1, number=3)[0][: 10 * RATE])
    assert {passage.fake for passage in passages} == {False, True}
    ends = [0.0, *(end for passage in passages for end in (passage.start, passage.end)), len(samples) / RATE]
    assert ends == sorted(ends) and all(0 < one.speech <= one.end - one.start for one in passages)
    assert all(one.source in clips[one.fake] for one in passages)
    assert np.abs(samples).max() <= 1 and not (samples == 0).any()  # no digital silence


def test_judging_again_gives_the_states_of_a_session(model: LoadedModel, made_corpus: Path) -> None:
    """With the session's own threshold, pauses without voice included."""
    samples, _ = compose(by_source(open_trials([made_corpus], "train")), 40.0, seed=0, number=0)
    pause = np.random.default_rng(0).normal(0, 1e-4, 8 * RATE).astype(np.float32)
    with Stop() as stop:
        verdicts = verdicts_of(model, np.concatenate([samples, pause, sound((), 20.0)]), stop)
    interval = verdicts[1].time - verdicts[0].time
    assert states(verdicts, model.card.score, interval, 0.7) == [verdict.state for verdict in verdicts]
    counts = [states(verdicts, model.card.score, interval, sure).count("spoof") for sure in SURE]
    assert counts == sorted(counts, reverse=True) and len({verdict.state for verdict in verdicts}) > 2


def test_alarms_are_true_within_a_fake_and_a_window_after_it() -> None:
    passages = [Turn(0, 20, False, "a", 18), Turn(22, 30, True, "x", 8), Turn(32, 60, False, "b", 28),
                Turn(62, 70, True, "y", 8)]  # fmt: skip
    alarmed = {5, 6, 21, 25, 26, 34, 50, 51, 52}  # s
    times = [float(time) for time in range(80)]
    found = judge(times, ["spoof" if time in alarmed else "unsure" for time in times], passages, window=5.0)
    assert found[:3].tolist() == [2, 3, 1] and np.isnan(found[3])  # 34 s is within a window of the fake
    row = alarm_rows([(one, np.full(len(SURE), v)) for one, v in zip(passages, found, strict=True)], "m", seed=0)[0]
    assert row["found"].value == 50 and row["until found"] == 3  # type: ignore[union-attr]
    assert row["false alarms"].value == pytest.approx(3 / (46 / 3600))  # type: ignore[union-attr]


def test_alarms_do_not_depend_on_processes(
    path: Path, made_corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(alarms, "STREAM", 40.0)
    words = ["x", "--alarms", str(path), "--corpus", str(made_corpus), "--partition", "train", "--hours", "0.02"]
    monkeypatch.setattr(sys, "argv", [*words, "--step", "24", "--workers", "1", "--out", str(tmp_path / "out")])
    assert command.main() == 0
    report = read_report(tmp_path / "out")
    assert [table.name for table in report.tables] == ["sure", "alarms"] and (tmp_path / "out" / "alarms.png").is_file()
    rows = report.table("alarms").records()
    rates = [row["false alarms"].value for row in rows]  # type: ignore[union-attr]
    assert len(rates) == len(SURE) and min(rates) >= 0
    clips = by_source(open_trials([made_corpus], "train"))
    other = alarm_rows(raise_alarms(path, clips, 0.02, 0, 2, step=24), "model", 0)
    assert [row["false alarms"] for row in other] == [row["false alarms"] for row in rows]


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 1.0}, {"load": -1}, {"alarms": True}, {"corpus": (Path(), Path())}, {"streams": (0,)},
     {"streams": (2, 2)}, {"models": ("f0", "wide")}, {"models": ("f0", "f0"), "streams": (1,)},
     {"hours": 1.0, "streams": (1,)}],
)  # fmt: skip
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ShrikeError):
        command.Options(**wrong)


@pytest.mark.parametrize(
    ("words", "tables"),
    [(("--load", "0", "--hours", "0.005"), ["real-time", "hours"]), (("--streams", "2"), ["speed", "load"])],
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
