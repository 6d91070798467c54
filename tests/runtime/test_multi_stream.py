"""Many streams in one batcher: each has the scores it would have alone, whoever else comes, goes or brings nonsense."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import RATE, FrontEnd
from runtime.audio.framer import Score
from runtime.card.model_card import read_card
from runtime.engines import Engine, open_engine
from runtime.multi_stream import BatchedStream, StreamBatcher
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps

LENGTH = 3 * RATE
SOUNDS = [(np.random.default_rng(seed).standard_normal(LENGTH) * 0.05).astype(np.float32) for seed in range(4)]

Model = tuple[Engine, FrontEnd]


@pytest.fixture(scope="module", params=["steps", "steps one by one", "windows"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("model")
    makers = {
        "steps": lambda: made_steps(folder),
        "steps one by one": lambda: made_steps(folder, batch=1),
        "windows": lambda: made_model(folder, "wide"),
    }
    path = makers[request.param]()
    engine = open_engine(path)
    yield engine, read_card(path).frontend
    engine.close()


def alone(model: Model, sound: np.ndarray) -> list[Score]:
    one = StreamScorer(*model)
    return one.push(sound) + one.finish()


class Fed:
    """A stream with its sound, and its scores."""

    def __init__(self, batcher: StreamBatcher, sound: np.ndarray) -> None:
        self.batcher, self.stream, self.sound = batcher, batcher.create_stream(), sound
        self.at, self.scores = 0, []

    def push(self, count: int) -> None:
        self.stream.accept_waveform(self.sound[self.at : self.at + count])
        self.at += count

    def taken(self) -> list[Score]:
        return self.batcher.get_result(self.stream)

    def end(self) -> None:
        self.batcher.finish(self.stream)
        self.scores += self.taken()
        self.batcher.remove(self.stream)


def decode(fed: list[Fed]) -> None:
    fed[0].batcher.decode_all([one.stream for one in fed])


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 3)),
        st.tuples(st.just("push"), st.integers(0, 50), st.integers(0, 12_000)),
        st.tuples(st.just("run")),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("drop"), st.integers(0, 50)),
        st.tuples(st.just("nonsense"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(acts=ACTS, most=st.sampled_from([1, 2, 3, 16]))
@settings(max_examples=40, deadline=None)
def test_whoever_joins_leaves_or_fails_each_has_the_scores_it_has_alone(
    model: Model, acts: list[Any], most: int
) -> None:
    """Any order of joining, pushing, running, ending, leaving midway, and of samples that are none."""
    batcher, there, ended = StreamBatcher(*model, most=most), [], []
    for act, *values in acts:
        if act == "join":
            there.append(Fed(batcher, SOUNDS[values[0]]))
        elif act == "run":
            batcher.decode_streams([one.stream for one in there])
        elif there:
            one = there[values[0] % len(there)]
            if act == "push":
                one.push(values[1])
            elif act == "nonsense":
                with pytest.raises(ShrikeError):
                    one.stream.accept_waveform(np.full(500, np.nan, np.float32))
            else:
                there.remove(one)
                one.end() if act == "end" else batcher.remove(one.stream)
                ended += [one] if act == "end" else []
    assert len(batcher) == len(there)
    for one in there:
        one.push(LENGTH)
        one.end()
    assert len(batcher) == 0
    for one in ended + there:
        assert one.scores == alone(model, one.sound[: one.at])


@pytest.mark.parametrize("size", [320, 1_000, 2_080])
def test_streams_out_of_step_share_calls(model: Model, size: int) -> None:
    """Streams that began at different times, in real-time blocks."""
    batcher = StreamBatcher(*model)
    fed = [Fed(batcher, SOUNDS[place % 4]) for place in range(9)]
    for place, one in enumerate(fed):
        one.push(137 * place)
    for _ in range(0, LENGTH, size):
        for one in fed:
            one.push(size)
        decode(fed)
        assert not any(batcher.is_ready(one.stream) for one in fed)
    for one in fed:
        one.end()
        assert one.scores == alone(model, one.sound)


def test_holes_are_each_streams_own(model: Model) -> None:
    batcher = StreamBatcher(*model)
    whole, torn, spliced = (Fed(batcher, SOUNDS[0]) for _ in range(3))
    lone = StreamScorer(*model)
    expected = [score.value for score in lone.push(SOUNDS[0])]
    for one in (whole, torn, spliced):
        one.push(RATE + 777)
    assert batcher.skip(torn.stream, RATE) and not batcher.skip(spliced.stream, 100)
    assert torn.stream.framer.position == 2 * RATE + 777
    torn.stream.accept_waveform(SOUNDS[0])
    whole.push(LENGTH)
    spliced.push(LENGTH)
    decode([whole, torn, spliced])
    assert [score.value for score in whole.taken()] == expected
    # the first score of before the hole, then those of a new stream
    assert [score.value for score in torn.taken()][-len(expected) :] == expected
    other = StreamScorer(*model)
    values = other.push(SOUNDS[0][: RATE + 777])
    other.skip(100)
    values += other.push(SOUNDS[0][RATE + 777 :])
    assert spliced.taken() == values


@pytest.mark.parametrize(
    "samples", [np.zeros((3, 2), np.float32), np.zeros(3, np.int16), np.array([0, np.nan], np.float32)]
)
def test_bad_samples_are_refused_and_not_heard(model: Model, samples: np.ndarray) -> None:
    batcher = StreamBatcher(*model)
    good, bad = (Fed(batcher, SOUNDS[1]) for _ in range(2))
    bad.push(5_000)
    with pytest.raises(ShrikeError):
        bad.stream.accept_waveform(samples)
    assert bad.stream.framer.position == 5_000
    for one in (good, bad):
        one.push(LENGTH)
        decode([one])
        one.end()
        assert one.scores == alone(model, one.sound)


class Poisoned:
    """Engine that returns NaN for a stream whose lowest band is louder than any sound, as an overflow would."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def batch_buffers(self, count: int) -> Any:
        buffers = self.engine.batch_buffers(count)
        run = buffers.run

        def poisoned(count: int) -> np.ndarray:
            logits = run(count)
            logits[buffers.features[:count, 0, 0, 0] > 15] = np.nan
            return logits

        buffers.run = poisoned
        return buffers


def test_a_score_that_is_not_finite_ends_one_stream_and_no_other(tmp_path: Path) -> None:
    path = made_steps(tmp_path)
    with open_engine(path) as engine:  # type: ignore[attr-defined]
        model = (Poisoned(engine), read_card(path).frontend)
        batcher = StreamBatcher(*model)
        good, bad, other = (Fed(batcher, SOUNDS[place]) for place in (0, 1, 2))
        bad.sound = bad.sound.copy()
        bad.sound[2 * RATE :] = 1e4  # so loud that the first band is above e^15
        for one in (good, bad, other):
            one.push(LENGTH)
        decode([good, bad, other])
        before = [score for score in alone((engine, model[1]), SOUNDS[1]) if score.time < 2.0]
        assert before and bad.taken()[: len(before)] == before
        for act in (bad.taken, lambda: bad.stream.accept_waveform(SOUNDS[1])):
            with pytest.raises(ShrikeError):
                act()
        bad.stream.reset()
        bad.stream.accept_waveform(SOUNDS[1])
        decode([bad])
        values = [score.value for score in alone((engine, model[1]), SOUNDS[1])]
        assert [score.value for score in bad.taken()] == values
        for one in (good, other):
            assert one.taken() == alone((engine, model[1]), one.sound)


def test_a_place_is_used_again_and_the_next_stream_begins_clean(model: Model) -> None:
    batcher = StreamBatcher(*model)
    for _ in range(30):
        one, two = (Fed(batcher, SOUNDS[place]) for place in (2, 3))
        for fed in (two, one):
            fed.push(int(1.5 * RATE))
        decode([one, two])
        batcher.remove(two.stream)
        batcher.remove(two.stream)
        one.end()
        assert one.scores == alone(model, one.sound[: one.at])
    assert len(batcher) == 0
    with pytest.raises(ShrikeError):
        one.stream.accept_waveform(SOUNDS[0])


def test_memory_of_a_stream_is_its_state_and_one_step_of_sound(tmp_path: Path) -> None:
    """Counted by what 100 more streams take."""
    import tracemalloc

    path, state_bytes = made_steps(tmp_path), 4 * 8 * 45 + 4 * 45 + 45
    with open_engine(path) as engine:  # type: ignore[attr-defined]
        batcher = StreamBatcher(engine, read_card(path).frontend)
        chunk, streams = SOUNDS[0][: 2 * RATE], list[BatchedStream]()

        def fill(count: int) -> None:
            for _ in range(count):
                stream = batcher.create_stream()
                for start in range(0, len(chunk), 320):
                    stream.accept_waveform(chunk[start : start + 320])
                batcher.decode_all([stream])
                streams.append(stream)

        fill(24)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        fill(100)
        used = (tracemalloc.get_traced_memory()[0] - before) / 100
        tracemalloc.stop()
    assert used < 2.1 * state_bytes + 40_000  # rows are doubled when they run out


@pytest.mark.parametrize("most", [0, -3])
def test_a_call_for_nobody_cannot_be(model: Model, most: int) -> None:
    with pytest.raises(ShrikeError):
        StreamBatcher(*model, most=most)
