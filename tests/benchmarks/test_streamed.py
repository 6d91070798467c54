"""Benchmarks of the stream: every sample that goes in is accounted for, and what is too slow is seen to lose."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import stream
from benchmarks.endurance import Endurance, endure, fit_slope, missing_verdicts
from benchmarks.pacing import from_file, in_real_time
from benchmarks.report import read_report
from benchmarks.speech import as_pcm, clips, voice
from benchmarks.streamed import hours_table, notes
from runtime.audio.features import RATE
from runtime.engines.model_loader import LoadedModel, load_model
from tests.runtime.made_model import made_model

MINUTES = float(os.environ.get("SHRIKE_STREAM_MINUTES", "3"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def chosen(model: Path) -> Iterator[LoadedModel]:
    found = load_model(model, "onnx")
    yield found
    found.engine.close()


class Slow:
    """An engine that takes its time."""

    def __init__(self, chosen: LoadedModel, seconds: float) -> None:
        self._engine, self._seconds = chosen.engine, seconds
        self.name, self.precision = chosen.engine.name, chosen.engine.precision

    def __call__(self, features: np.ndarray) -> np.ndarray:
        time.sleep(self._seconds)
        return self._engine(features)

    def close(self) -> None:
        """The fixture closes the engine."""


# ---------------------------------------------------------------- real time


def test_in_real_time_everything_is_heard_and_each_verdict_has_both_its_latencies(chosen: LoadedModel) -> None:
    run = in_real_time(chosen, voice(3.0), 3.0, rate=48_000, step=24)
    assert run.sent == pytest.approx(3.0)
    assert run.summary.seconds + run.lost + run.unheard == pytest.approx(run.sent)
    assert len(run.spoken_ms) == len(run.arrived_ms) == run.summary.verdicts > 0
    # A sample is spoken before its block is handed over, so that the first latency is the longer one, always.
    assert all(spoken > arrived >= 0 for spoken, arrived in zip(run.spoken_ms, run.arrived_ms, strict=True))


def test_a_machine_that_is_too_slow_loses_sound_and_every_lost_sample_is_counted(chosen: LoadedModel) -> None:
    slow = replace(chosen, engine=Slow(chosen, 0.5))
    run = in_real_time(slow, voice(6.0), 6.0, rate=RATE, step=12)  # a verdict is due every 0.0975 s
    assert run.lost > 0 and run.summary.gaps > 0
    assert run.summary.seconds + run.lost + run.unheard == pytest.approx(run.sent)
    assert any("lost" in note for note in notes({"slow": run}, None))


def test_the_sound_card_changes_no_verdict(chosen: LoadedModel) -> None:
    """At the model's own rate nothing is resampled: the microphone's first full window is the file's."""
    samples = np.round(voice(6.0) * 32767).astype(np.float32) / 32768
    run = in_real_time(chosen, samples, 6.0, rate=RATE)
    speed, cost = from_file(chosen, samples)
    assert speed > 0 and cost.core > 0
    from runtime.scorer import StreamScorer

    (first,) = [s for s in StreamScorer(chosen.engine, chosen.card.frontend).push(samples) if s.frames == 600][:1]
    assert run.summary.score == first.value


# ---------------------------------------------------------------- hours


def check_hours(run: Endurance, sound: float) -> None:
    assert run.complete and run.sent == run.heard == round(sound * RATE)
    assert run.verdicts > 0.9 * (sound - 5) / (60 * 130 / RATE)
    assert (np.diff(run.hours) > 0).all() and run.hours[-1] <= sound / 3600
    (row,) = hours_table(run).records()
    assert row["samples in"] == row["samples scored"] and row["verdicts missing"] == 0
    if len(run.memory):
        late = run.memory[run.hours >= 0.5 * run.hours[-1]]
        assert late.max() - late.min() < 8  # MB; nothing of a stream's length is kept


def test_minutes_of_sound_come_out_as_they_went_in(model: Path) -> None:
    check_hours(endure(str(model), voice(30.0), MINUTES / 60, step=60), 60 * MINUTES)


@pytest.mark.long
def test_an_hour_of_sound_comes_out_as_it_went_in_and_takes_no_more_memory(model: Path) -> None:
    run = endure(str(model), voice(600.0), 1.0, step=60)
    check_hours(run, 3600.0)
    if len(run.memory):
        assert run.slope is not None and run.slope.value < 1  # MB per hour


def test_a_verdict_that_does_not_come_is_missed() -> None:
    interval = 0.0975
    times = np.round(1.0 + interval * np.arange(100), 4)
    seconds = times[-1] + 0.5 * interval
    assert missing_verdicts(times, interval, seconds) == 0
    assert missing_verdicts(np.delete(times, 50), interval, seconds) == 1
    assert missing_verdicts(np.delete(times, slice(20, 40)), interval, seconds) == 20
    assert missing_verdicts(times[:-3], interval, seconds) == 3
    assert missing_verdicts(np.insert(times, 7, times[7]), interval, seconds) == 1  # said twice
    assert missing_verdicts(times[:0], interval, seconds) > 0


def test_a_slope_is_found_with_its_interval_and_what_settles_first_does_not_count() -> None:
    rng, hours = np.random.default_rng(5), np.linspace(0, 24, 400)
    settling = 20 * np.exp(-hours / 0.1)
    inside = 0
    for _ in range(200):
        slope = fit_slope(hours, 80 - settling + 0.05 * hours + rng.normal(0, 0.3, 400))
        assert slope is not None
        inside += slope.low <= 0.05 <= slope.high
    assert 180 <= inside <= 199  # of 200, 95 % are expected
    level = fit_slope(hours, np.full(400, 80.0))
    assert level is not None and (level.low, level.value, level.high) == (0, 0, 0)
    assert fit_slope(hours / 100, 80 + hours) is None  # a quarter of an hour: still settling
    assert fit_slope(np.zeros(0), np.zeros(0)) is None


# ---------------------------------------------------------------- sound, command


def test_the_made_voice_has_the_level_and_the_pauses_of_speech() -> None:
    samples = voice(20.0, seed=3)
    assert len(samples) == 20 * RATE and samples.dtype == np.float32 and np.abs(samples).max() < 1
    assert (samples == voice(20.0, seed=3)).all() and (samples != voice(20.0, seed=4)).any()
    levels = 10 * np.log10((samples.reshape(-1, RATE // 20) ** 2).mean(axis=1))  # dB of 50 ms
    assert 0.05 < (levels < -60).mean() < 0.5 and (levels > -35).mean() > 0.4
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    assert spectrum[: len(spectrum) // 4].sum() > 0.5 * spectrum.sum()  # below 2 kHz, as of a voice
    assert np.abs(np.frombuffer(as_pcm(samples), "<i2") / 32767 - samples).max() < 1e-4


def test_clips_of_a_corpus_last_as_long_as_is_asked(made_corpus: Path) -> None:
    assert len(clips(made_corpus, 7.25)) == round(7.25 * RATE)
    assert len(clips(made_corpus, 300.0)) == 300 * RATE  # more than there is


def test_the_command_leaves_a_report(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--seconds", "2", "--load", "1", "--rounds", "1", "--hours", "0.01", "--out", str(tmp_path / "report")]
    monkeypatch.setattr("sys.argv", ["benchmarks.stream", str(model), *words])
    monkeypatch.setattr(stream, "FILE", 10.0)
    assert stream.main() == 0
    report = read_report(tmp_path / "report")
    assert [table.name for table in report.tables] == ["speed", "real-time", "hours"]
    assert [row["condition"] for row in report.table("real-time").records()] == ["undisturbed", "1 busy process"]
    assert {plot.file for plot in report.plots} == {"latency.png", "memory.png"}
