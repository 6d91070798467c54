"""Scores of a stream: any chunking, the offline score, warming up, holes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.audio.features import HOP, PRESETS, RATE, fill
from runtime.audio.framer import LARGEST, Score
from runtime.card.model_card import read_card
from runtime.engines import Engine, open_engine
from runtime.multi_stream import StreamBatcher
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.05).astype(np.float32)


SOUND = noise(7 * RATE)


class Mean:
    """An engine whose score is the window's mean."""

    name, precision = "mean", "fp32"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, features: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.array([[0.0, features.mean()]], np.float32)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module", params=["f0", "wide"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = made_model(tmp_path_factory.mktemp("model"), request.param)
    engine = open_engine(path)
    engine.frontend = read_card(path).frontend  # type: ignore[attr-defined]
    yield engine
    engine.close()


def scores_of(engine: Engine, sound: np.ndarray, cuts: list[int], step: int = 12) -> list[Score]:
    scorer = StreamScorer(engine, engine.frontend, step)  # type: ignore[attr-defined]
    scores = [score for piece in np.split(sound, sorted(cuts)) for score in scorer.push(piece)]
    return scores + scorer.finish()


@given(cuts=st.lists(st.integers(0, len(SOUND)), max_size=20), step=st.sampled_from([12, 12, 7, 60]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunking_gives_the_same_scores_bit_for_bit(engine: Engine, cuts: list[int], step: int) -> None:
    assert scores_of(engine, SOUND, cuts, step) == scores_of(engine, SOUND, [], step)


@pytest.mark.parametrize("chunk", [1, 37, 160, 1000, 16_000])
def test_regular_chunks_give_the_same_scores(engine: Engine, chunk: int) -> None:
    sound = SOUND[: 2 * RATE] if chunk == 1 else SOUND
    cuts = list(range(chunk, len(sound), chunk))
    assert scores_of(engine, sound, cuts) == scores_of(engine, sound, [])


@pytest.mark.parametrize("step", [12, 7, 1])
@pytest.mark.parametrize("seconds", [0.12, 0.9, 1.0, 1.7, 4.9, 5.0, 7.0])
def test_the_offline_score_of_a_clip_is_among_them(engine: Engine, seconds: float, step: int) -> None:
    frontend, sound = engine.frontend, SOUND[: int(seconds * RATE)]  # type: ignore[attr-defined]
    window = np.ascontiguousarray(fill(frontend.frames(sound)[: frontend.width], frontend.width).T)
    logits = engine(window[None, None])[0]
    offline = float(logits[1]) - float(logits[0])
    scores = scores_of(engine, sound, [], step)
    first = next((score for score in scores if not score.warming), scores[-1])
    assert first.value == offline
    assert first.frames == min(frontend.width, frontend.count(len(sound)))


def test_scores_come_every_step_and_say_when() -> None:
    frontend, mean = PRESETS["f0"], Mean()
    scorer = StreamScorer(mean, frontend)
    scores = scorer.push(SOUND)
    times = np.array([score.time for score in scores])
    assert np.allclose(np.diff(times), 12 * HOP / RATE) and scorer.interval == 0.0975
    assert 1.0 <= times[0] < 1.0 + scorer.interval
    full = [score for score in scores if not score.warming]
    assert full[0].time == frontend.seconds and {score.frames for score in full} == {600}
    assert len(scores) == mean.calls and scorer.framer.position == len(SOUND)
    assert scorer.finish() == []


def test_a_short_hole_keeps_the_window_and_a_long_one_does_not() -> None:
    scorer = StreamScorer(Mean(), PRESETS["f0"])
    scorer.push(SOUND)
    assert not scorer.skip(RATE // 10)
    later = scorer.push(SOUND[:RATE])
    assert later and not later[0].warming
    assert later[0].time > 7.1 + PRESETS["f0"].window / RATE - 1e-9  # no frame spans the hole
    assert scorer.skip(RATE)
    assert scorer.push(SOUND[: RATE // 2]) == []
    again = scorer.push(SOUND[:RATE])
    assert again[0].warming and again[0].time >= 7 + 0.1 + 1 + 1 + 1
    assert scorer.framer.position == 7 * RATE + RATE // 10 + RATE + RATE + RATE // 2 + RATE


def test_after_a_hole_scores_are_those_of_a_new_stream() -> None:
    fresh, used = (StreamScorer(Mean(), PRESETS["f0"]) for _ in range(2))
    used.push(noise(6 * RATE, seed=1))
    used.skip(RATE)
    assert [s.value for s in used.push(SOUND)] == [s.value for s in fresh.push(SOUND)]


def test_a_clip_below_one_frame_has_no_score() -> None:
    scorer = StreamScorer(Mean(), PRESETS["f0"])
    assert scorer.push(SOUND[:1727]) == [] and scorer.finish() == []


@given(value=st.floats(width=32, allow_nan=False))
@settings(max_examples=50, deadline=None)
def test_extreme_samples_give_finite_scores(value: float) -> None:
    scorer = StreamScorer(Mean(), PRESETS["wide"])
    sound = SOUND[: int(1.2 * RATE)].copy()
    sound[1000:1100] = value
    scores = scorer.push(sound)
    assert scores and all(np.isfinite(score.value) for score in scores)
    assert LARGEST >= 1


def test_a_model_that_answers_nan_is_an_error_in_one_line() -> None:
    class Broken(Mean):
        def __call__(self, features: np.ndarray) -> np.ndarray:
            return np.full((1, 2), np.nan, np.float32)

    with pytest.raises(ShrikeError):
        StreamScorer(Broken(), PRESETS["f0"]).push(SOUND)


@pytest.mark.parametrize("step", [0, -1, 601])
def test_a_step_that_cannot_be(step: int) -> None:
    with pytest.raises(ShrikeError):
        StreamScorer(Mean(), PRESETS["f0"], step)


def test_the_model_is_made_without_torch(tmp_path: Path) -> None:
    assert read_card(made_model(tmp_path)).frontend == PRESETS["f0"]


# ---------------------------------------------------------------- as few windows as cover a file


def covering(engine: Engine, sound: np.ndarray, step: int) -> list[Score]:
    """Scores of full windows, and one of the newest frames at the end."""
    batcher = StreamBatcher(engine, engine.frontend, step, full_only=True)  # type: ignore[attr-defined]
    stream = batcher.create_stream()
    stream.accept_waveform(sound)
    batcher.finish(stream, newest=True)
    return batcher.get_result(stream)


@pytest.mark.parametrize("step", [308, 600])
def test_covering_windows_score_as_a_stream_does(engine: Engine, step: int) -> None:
    """A stream with a step of one frame has them all, bit for bit: those of files, and those of every other stream."""
    every = {score.time: score for score in scores_of(engine, SOUND, [], 1)}
    covered, stream = covering(engine, SOUND, step), scores_of(engine, SOUND, [], step)
    assert all(every[score.time] == score for score in covered + stream)
    assert covered[:-1] == [score for score in stream if not score.warming]
    assert covered[-1].time == max(every) and len({score.time for score in covered}) == len(covered)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 4.8])
def test_a_clip_below_a_window_has_one_covering_score(engine: Engine, seconds: float) -> None:
    sound = SOUND[: round(seconds * RATE)]
    assert covering(engine, sound, 308) == scores_of(engine, sound, [], 600)[-1:]


def test_an_end_on_the_grid_is_scored_once() -> None:
    engine = Mean()
    engine.frontend = PRESETS["wide"]  # type: ignore[attr-defined]
    window = PRESETS["wide"].window + 599 * HOP
    assert len(covering(engine, SOUND[:window], 308)) == 1 == engine.calls
