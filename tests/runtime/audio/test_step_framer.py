"""Streaming models: any chunking, gaps, short clips, and cards that do not fit their graphs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import PRESETS, RATE
from runtime.audio.framer import Score, StepFramer
from runtime.audio.score_times import first, scored
from runtime.card import model_card as cards
from runtime.card.model_card import read_card
from runtime.engines import Engine, initial_states, open_engine
from runtime.engines.onnx import OnnxEngine, open_onnx
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.runtime.made_steps import FRAMES, change, made_steps, step_graph

SOUND = (np.random.default_rng(0).standard_normal(7 * RATE) * 0.05).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_steps(tmp_path_factory.mktemp("steps"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[OnnxEngine]:
    with open_onnx(model) as engine:
        yield engine


def scorer(engine: Engine, step: int | None = None) -> StreamScorer:
    return StreamScorer(engine, engine.card.frontend, step)  # type: ignore[attr-defined]


def scores_of(engine: Engine, sound: np.ndarray, cuts: list[int] | None = None, step: int | None = None) -> list[Score]:
    one = scorer(engine, step)
    scores = [score for piece in np.split(sound, sorted(cuts or [])) for score in one.push(piece)]
    return scores + one.finish()


def by_hand(engine: OnnxEngine, frames: np.ndarray) -> list[float]:
    """The score after every step of these frames, states handed on by hand: what any streaming must give."""
    assert engine.state is not None
    states, found = initial_states(engine.state, 1), []
    for start in range(0, len(frames) - FRAMES + 1, FRAMES):
        step = np.ascontiguousarray(frames[start : start + FRAMES].T)[None, None]
        logits, states = engine.step(step, states)
        found.append(float(logits[0, 1]) - float(logits[0, 0]))
    return found


# ---- scores


@given(cuts=st.lists(st.integers(0, len(SOUND)), max_size=20), step=st.sampled_from([None, 16, 32, 592]))
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same_scores_bit_for_bit(engine: OnnxEngine, cuts: list[int], step: int | None) -> None:
    assert scores_of(engine, SOUND, cuts, step) == scores_of(engine, SOUND, [], step)


@pytest.mark.parametrize("step", [None, 32, 112])
def test_scores_are_those_of_the_steps_by_hand(engine: OnnxEngine, step: int | None) -> None:
    scores = scores_of(engine, SOUND, step=step)
    values = by_hand(engine, engine.card.frontend.frames(SOUND))
    for score in scores:
        fed = round((score.time * RATE - 1728) / 130) + 1
        assert fed % FRAMES == 0 and score.value == values[fed // FRAMES - 1]
        assert score.warming == (fed < 592) and score.frames == min(fed, 600)
    assert len(scores) > 3 and scores[0].time >= 1.0
    assert next(score.value for score in scores if not score.warming) == values[592 // FRAMES - 1]


@pytest.mark.parametrize("step", [None, 32, 592])
@pytest.mark.parametrize("seconds", [1.05, 1.7, 3.0, 4.9, 5.5])
def test_the_last_score_of_a_clip_is_that_of_its_last_whole_step(
    engine: OnnxEngine, seconds: float, step: int | None
) -> None:
    """Within the first 600 frames: what offline evaluation gives."""
    sound = SOUND[: int(seconds * RATE)]
    scores = scores_of(engine, sound, step=step)
    offline = next((score for score in scores if not score.warming), scores[-1])
    assert offline.value == by_hand(engine, engine.card.frontend.frames(sound)[:600])[-1]


@pytest.mark.parametrize("seconds", [0.11, 0.12, 0.5, 0.99, 1.0])
def test_a_clip_shorter_than_the_first_score_repeats_its_frames(engine: OnnxEngine, seconds: float) -> None:
    sound = SOUND[: int(seconds * RATE)]
    (score,) = scores_of(engine, sound)
    frames = engine.card.frontend.frames(sound)
    repeated = np.take(frames, np.arange(112) % len(frames), axis=0)
    assert score.value == by_hand(engine, repeated)[-1]
    assert score.warming and score.frames == len(frames) < 112
    assert score.time == ((len(frames) - 1) * 130 + 1728) / RATE
    assert scores_of(engine, sound, step=592) == [score]


@pytest.mark.parametrize("preset", ["f0", "wide"])
def test_scores_fall_where_the_clip_rule_says(preset: str) -> None:
    """runtime.audio.score_times is what training and export score clips by."""
    frontend, whole = PRESETS[preset], False
    framer = StepFramer(frontend, FRAMES)
    framer.accept(SOUND)
    while framer.ready:
        framer.next()
        score = framer.score(np.array([0.0, 1.0], np.float32))
        assert (score is not None) == (framer.count >= first(frontend))
        if score is not None and score.warming:
            assert scored(score.frames + FRAMES - 1, frontend) == score.frames
        elif score is not None and not whole:
            assert framer.count == scored(600, frontend) == scored(5_000, frontend) == 592
            whole = True
    assert whole


def test_less_than_a_frame_is_no_clip(engine: OnnxEngine) -> None:
    assert scores_of(engine, SOUND[:1727]) == []


def test_after_a_long_hole_the_state_begins_anew_and_after_a_short_one_it_goes_on(engine: OnnxEngine) -> None:
    fresh, used = scorer(engine), scorer(engine)
    used.push(SOUND[::-1].copy())
    assert used.skip(RATE)
    assert [s.value for s in used.push(SOUND)] == [s.value for s in fresh.push(SOUND)]
    assert not used.skip(RATE // 10)
    before = used.push(SOUND[:RATE])
    assert not before[0].warming and before[0].time > 7 + 1 + 7.1 + 1728 / RATE - 1e-9


def test_frames_before_and_after_a_short_hole_are_those_the_network_sees(engine: OnnxEngine) -> None:
    """3 s, a hole of 0.1 s, 3 s: frames of both sides one behind the other, and none across."""
    one = scorer(engine)
    sides = SOUND[: 3 * RATE], SOUND[3 * RATE : 6 * RATE]
    scores = one.push(sides[0])
    one.skip(RATE // 10)
    scores += one.push(sides[1])
    frames = np.concatenate([engine.card.frontend.frames(side) for side in sides])
    assert [score.value for score in scores] == by_hand(engine, frames)[6:]


def test_a_score_comes_with_the_last_sample_of_its_window(engine: OnnxEngine) -> None:
    one, at = scorer(engine), 0
    for score in scorer(engine).push(SOUND):
        end = round(score.time * RATE)
        assert one.push(SOUND[at : end - 1]) == [] and one.push(SOUND[end - 1 : end]) == [score]
        at = end
    assert one.interval == 16 * 130 / RATE


@pytest.mark.parametrize("step", [12, 15, 0, -16, 608])
def test_a_step_that_cannot_be(engine: OnnxEngine, step: int) -> None:
    with pytest.raises(ShrikeError):
        scorer(engine, step)


# ---- the engine


def test_a_batch_is_what_single_streams_are(engine: OnnxEngine) -> None:
    assert engine.state is not None
    rng = np.random.default_rng(1)
    features = rng.normal(-8, 4, (5, 1, 45, FRAMES)).astype(np.float32)
    states = [rng.integers(0, 9, (5, *t.shape)).astype(t.type) for t in engine.state.tensors]
    logits, after = engine.step(features, states)
    for row in range(5):
        alone = engine.step(features[row : row + 1], [state[row : row + 1] for state in states])
        np.testing.assert_allclose(alone[0][0], logits[row], atol=1e-5)
        assert all((one[0] == many[row]).all() for one, many in zip(alone[1], after, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_batch_buffers_give_what_steps_give(engine: OnnxEngine, tmp_path: Path, count: int) -> None:
    """Bound once for any batch; and of a graph that takes one stream at a time, one by one."""
    features = np.random.default_rng(2).normal(-8, 4, (4, count, 1, 45, FRAMES)).astype(np.float32)
    with open_onnx(made_steps(tmp_path, batch=1)) as single:
        for one in (engine, single):
            assert one.state is not None
            buffers, states = one.batch_buffers(4), initial_states(one.state, count)
            for new in features:
                buffers.features[:count] = new
                logits, states = one.step(new, states)
                np.testing.assert_array_equal(buffers.run(count), logits)
                assert all(
                    (stored[:count] == state).all() for stored, state in zip(buffers.states, states, strict=True)
                )


def test_invalid_inputs_of_a_step_are_errors(engine: OnnxEngine) -> None:
    assert engine.state is not None
    features, states = np.zeros((1, 1, 45, FRAMES), np.float32), initial_states(engine.state, 1)
    with pytest.raises(ShrikeError):
        engine(np.zeros((1, 1, 45, 600), np.float32))
    with pytest.raises(ShrikeError):
        engine.step(features[..., :8], states)
    with pytest.raises(ShrikeError):
        engine.step(features, states[:2])
    with pytest.raises(ShrikeError):
        engine.step(features, [*states[:2], states[2].astype(np.float32)])
    with pytest.raises(ShrikeError):
        engine.step(features, initial_states(engine.state, 2))
    other = OnnxEngine(step_graph(45, FRAMES, -1).SerializeToString(), engine.card)
    other.close()
    with pytest.raises(ShrikeError):
        other.step(features, states)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *[
            ("shape", shape)
            for shape in ([9, 45], [8, 46], [8 * 45], [8, 45, 1], [65_536, 1, 1, 256], [65_536, 65_536])
        ],
        ("type", "uint8"),
        *[("input", "other"), ("input", "features")],
        *[("output", "other"), ("output", "logits")],
        *[("reset", [0.0, 1.0]), ("reset", [1e400])],
    ],
)
def test_a_card_whose_states_do_not_fit_the_graph_is_one_line(tmp_path: Path, entry: str, value: Any) -> None:
    path = made_steps(tmp_path)
    text = json.loads(path.with_suffix(".json").read_text())
    text["state"]["tensors"][0][entry] = value
    path.with_suffix(".json").write_text(json.dumps(text))
    with pytest.raises(ShrikeError) as caught:
        open_engine(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_500


def test_states_too_few_and_a_batch_that_is_not_there(tmp_path: Path) -> None:
    path = made_steps(tmp_path)
    card = read_card(path)
    assert card.state is not None
    change(path, state=cards.State(FRAMES, card.state.tensors[:2]))
    with pytest.raises(ShrikeError):
        open_engine(path)
    change(path, state=None, input=cards.TensorSpec("features", (-1, 1, 45, 600)))
    with pytest.raises(ShrikeError):
        open_engine(path)
    path = made_steps(tmp_path / "one", batch=1)
    change(path, input=cards.TensorSpec("features", (-1, 1, 45, FRAMES)), output=cards.TensorSpec("logits", (-1, 2)))
    with pytest.raises(ShrikeError):
        open_engine(path)


def test_a_graph_that_gives_another_state_than_it_claims(tmp_path: Path) -> None:
    """Its shape is open in the graph, so that only running it tells."""
    path = made_steps(tmp_path)
    graph = onnx.load(str(path))
    graph.graph.node.append(onnx.helper.make_node("Concat", ["ring_after", "row"], ["longer_ring"], axis=1))
    graph.graph.output[1].name = "longer_ring"
    onnx.save(graph, str(path))
    card = read_card(path, verify=False)
    assert card.state is not None
    ring = cards.StateTensor("ring", "longer_ring", (8, 45), "float32", (0.0,))
    change(path, state=cards.State(FRAMES, (ring, *card.state.tensors[1:])))
    with pytest.raises(ShrikeError):
        one = scorer(open_engine(path))
        one.push(SOUND)
