"""The front-end: its definition, its edges, and that a stream sees what a file shows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import FLOOR, LEVEL_FRAMES, PRESETS, RATE, TOP, FeatureStream, FrontEnd, fill, level
from runtime.audio.high_pass import HighPass
from runtime.support import codec
from runtime.support.errors import ShrikeError

both = pytest.mark.parametrize("name", PRESETS)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.05).astype(np.float32)


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


@both
@given(cuts=st.lists(st.integers(0, 12_000), max_size=12), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_any_chunking_gives_the_frames_of_the_whole_clip_bit_for_bit(name: str, cuts: list[int], seed: int) -> None:
    sound, frontend = noise(12_000, seed), PRESETS[name]
    stream = FeatureStream(frontend)
    pieces = np.split(sound, sorted(cuts))
    streamed = np.concatenate([stream.push(piece) for piece in pieces])
    assert streamed.dtype == np.float32
    assert np.array_equal(streamed, frontend.frames(sound))


@both
def test_a_frame_depends_on_its_own_filtered_samples_alone(name: str) -> None:
    frontend, sound = PRESETS[name], noise(20_000)
    frames, filtered = frontend.frames(sound), HighPass(RATE).push(sound)
    for t in (0, 1, len(frames) - 1):
        alone = frontend.frames_of(filtered[t * frontend.hop : t * frontend.hop + frontend.window])
        assert np.array_equal(alone, frames[t : t + 1])


@both
@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_an_offset_moves_no_value(name: str, offset: float) -> None:
    sound = noise(20_000)
    moved = PRESETS[name].frames(sound + np.float32(offset)) - PRESETS[name].frames(sound)
    assert np.abs(moved).max() < 1e-3  # float32 rounds the sum; the quietest bin shows it most


@both
def test_a_constant_is_silence(name: str) -> None:
    frames = PRESETS[name].frames(np.full(RATE, 0.25, np.float32))
    assert np.all(frames == np.float32(np.log(FLOOR)))


@pytest.mark.parametrize("name", ["f0", "wide"])  # of mel, the window's loudest value sets the floor
def test_the_floor_lies_below_the_rounding_of_16_bits(name: str) -> None:
    """Or it would hide what a recording has; and not far below, or digital silence would be a clue of its own."""
    rounded = (np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE) * 2**-15).astype(np.float32)
    above = PRESETS[name].frames(rounded)[:, 3:].mean() - np.log(FLOOR)  # the lowest bands lie in the high-pass
    assert 0.5 < above < 2.5


@both
@pytest.mark.parametrize(("hops", "more", "count"), [(0, -1, 0), (0, 0, 1), (0, 1, 1), (1, -1, 1), (1, 0, 2)])
def test_frame_count_at_the_edges(name: str, hops: int, more: int, count: int) -> None:
    frontend = PRESETS[name]
    assert len(frontend.frames(noise(frontend.window + hops * frontend.hop + more))) == count


def test_presets_are_the_published_numbers() -> None:
    f0, wide = PRESETS["f0"], PRESETS["wide"]
    assert (f0.rate, f0.window, f0.hop, f0.bands, f0.width, f0.level) == (16_000, 1728, 130, 45, 600, "none")
    assert (f0.bins, f0.matrix.shape) == (865, (45, 865))
    assert (wide.window, wide.hop, wide.bands, wide.width) == (512, 130, 60, 600)
    assert 4.8 < wide.seconds < f0.seconds < 5.0


@pytest.mark.parametrize("frequency", [55.0, 120.0, 300.0])
def test_a_tone_peaks_in_its_own_f0_bin(frequency: float) -> None:
    peak = PRESETS["f0"].frames(tone(frequency)).argmax(axis=1)
    assert np.all(np.abs(peak * RATE / 1728 - frequency) <= RATE / 1728 / 2)


@pytest.mark.parametrize("frequency", [500.0, 2000.0, 6800.0])
def test_a_tone_peaks_in_the_triangle_around_it(frequency: float) -> None:
    frontend = PRESETS["wide"]
    spacing = TOP / (frontend.bands + 1)
    centres = (np.arange(frontend.bands) + 1) * spacing
    peak = frontend.frames(tone(frequency)).argmax(axis=1)
    assert np.all(np.abs(centres[peak] - frequency) <= spacing)


def test_f0_does_not_see_what_lies_above_its_band() -> None:
    low, high = tone(100.0), tone(1000.0)
    assert np.abs(PRESETS["f0"].frames(low + high) - PRESETS["f0"].frames(low))[:, 8:14].max() < 1e-2
    assert PRESETS["f0"].frames(high).max() < PRESETS["f0"].frames(low).max() - 10


def test_triangles_are_linear_overlap_and_sum_to_one_between_the_outer_centres() -> None:
    matrix = PRESETS["wide"].matrix
    inside = np.flatnonzero(np.arange(257) * 61 / 224 >= 1)  # 7 kHz is bin 224
    inside = inside[inside * 61 / 224 <= 60]
    assert np.allclose(matrix[:, inside].sum(axis=0), 1)
    assert not matrix[:, 224:].any()
    assert (matrix >= 0).all() and ((matrix > 0).sum(axis=0) <= 2).all()


@both
def test_silence_is_the_floor_and_never_minus_infinity(name: str) -> None:
    frames = PRESETS[name].frames(np.zeros(RATE, np.float32))
    assert np.all(frames == np.float32(np.log(FLOOR)))


@both
@given(db=st.floats(-10, 30))  # softer, the quietest bins would reach the floor
@settings(max_examples=20, deadline=None)
def test_window_mean_takes_gain_out(name: str, db: float) -> None:
    frontend, sound = PRESETS[name], noise(20_000)
    louder = (sound * 10 ** (db / 20)).astype(np.float32)
    one, other = (level(frontend.frames(x), "window-mean") for x in (sound, louder))
    assert np.abs(one - other).max() < 2e-3
    assert abs(float(one.mean())) < 1e-5
    assert np.array_equal(level(one, "none"), one)


@both
@given(db=st.floats(-10, 30), cut=st.integers(1, 110))
@settings(max_examples=20, deadline=None)
def test_running_mean_takes_gain_out_and_sees_the_past_alone(name: str, db: float, cut: int) -> None:
    frontend, sound = PRESETS[name], noise(20_000)
    louder = (sound * 10 ** (db / 20)).astype(np.float32)
    one, other = (level(frontend.frames(x), "running-mean") for x in (sound, louder))
    assert np.abs(one - other).max() < 2e-3
    assert abs(float(one[0].mean())) < 1e-5  # the first frame is levelled by itself
    assert np.array_equal(level(frontend.frames(sound)[:cut], "running-mean"), one[:cut])


def test_running_mean_forgets_with_its_time_constant() -> None:
    step = np.zeros((4 * LEVEL_FRAMES, 2), np.float32)
    step[2 * LEVEL_FRAMES :] = 1.0
    seen = level(step, "running-mean")[:, 0]
    ages = np.arange(len(step))
    for t in (0, 599, 600, 601, 899, 1199):
        weights = np.exp(-(t - ages[: t + 1]) / LEVEL_FRAMES)
        assert seen[t] == pytest.approx(step[t, 0] - (weights @ step[: t + 1, 0]) / weights.sum(), abs=1e-6)


def test_short_clips_repeat_their_frames_and_long_ones_are_cut() -> None:
    frames = np.arange(14, dtype=np.float32).reshape(7, 2)
    filled = fill(frames, 600)
    assert filled.shape == (600, 2)
    assert all(np.array_equal(filled[t], frames[t % 7]) for t in range(600))
    assert np.array_equal(fill(np.repeat(frames, 100, axis=0), 600), np.repeat(frames, 100, axis=0)[:600])


def test_reset_forgets_what_came() -> None:
    stream = FeatureStream(PRESETS["f0"])
    stream.push(noise(1727))
    stream.reset()
    assert len(stream.push(noise(1))) == 0
    assert np.array_equal(stream.push(noise(1728, 1)[1:]), PRESETS["f0"].frames(np.r_[noise(1), noise(1728, 1)[1:]]))


def test_a_long_clip_needs_no_more_memory_than_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    real = FrontEnd._log_bands

    def watched(self: FrontEnd, view: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, view.size)
        return real(self, view)

    monkeypatch.setattr(FrontEnd, "_log_bands", watched)
    PRESETS["f0"].frames(noise(60 * RATE))
    assert largest <= 256 * 1728


@both
def test_to_dict_and_back(name: str) -> None:
    leveled = PRESETS[name].with_level("window-mean")
    assert codec.build(FrontEnd, dataclasses.asdict(leveled), "") == leveled != PRESETS[name]


@pytest.mark.parametrize(
    "change, word",
    [
        ({"level": "loudest"}, "level"),
        ({"version": 3}, "update Shrike"),
        ({"version": 1}, "train the model again"),
        ({"version": "2"}, "version"),
        ({"shape": "gammatone"}, "shape"),
        ({"window": -1}, "window"),
        ({"window": True}, "window"),
        ({"hop": 2000}, "hops over"),
        ({"bands": 900}, "more bands"),
        ({"bands": 10**9}, "bands"),
        ({"rate": "16000"}, "rate"),
        ({"extra": 1}, "extra"),
        ({"shape": "triangular", "bands": 864}, "more bands"),
    ],
)
def test_a_front_end_that_is_not_implemented_is_refused_by_name(change: dict, word: str) -> None:
    with pytest.raises(ShrikeError, match=word):
        codec.build(FrontEnd, dataclasses.asdict(PRESETS["f0"]) | change, "")


@pytest.mark.parametrize("change", [{"level": "loudest"}, {"shape": "gammatone"}, {"window": True}, {"hop": 130.0}])
def test_a_front_end_made_in_python_is_checked_alike(change: dict) -> None:
    with pytest.raises(ShrikeError, match="front-end"):
        dataclasses.replace(PRESETS["f0"], **change)


def test_a_front_end_without_a_version_is_the_first_and_refused() -> None:
    values = dataclasses.asdict(PRESETS["wide"])
    del values["version"]
    with pytest.raises(ShrikeError, match="version 1"):
        codec.build(FrontEnd, values, "")


def test_front_end_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["f0"].bands = 3  # type: ignore[misc]


def test_pushing_nothing_gives_nothing() -> None:
    assert FeatureStream(PRESETS["wide"]).push(np.empty(0, np.float32)).shape == (0, 60)


@pytest.mark.parametrize("wrong", [{"rate": 8_000}, {"window": 65_536}, {"window": 16_000, "bands": 8_001}])
def test_a_front_end_that_would_take_gigabytes_or_another_rate_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ShrikeError):
        FrontEnd(**wrong)


def test_centres_are_the_mean_frequencies_of_the_bands() -> None:
    assert np.allclose(PRESETS["f0"].centres, np.arange(45) * 16_000 / 1728)
    mel = PRESETS["mel"].centres
    assert (np.diff(mel) > 0).all() and mel[40] == pytest.approx(1_722, abs=5)
