"""Files, pipes and the intake: the same samples however they arrive, and nothing a device sends can hurt."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.audio.containers import TYPES, recognise
from runtime.audio.decode import load
from runtime.audio.framer import LARGEST
from runtime.audio.resampler import Resampler
from runtime.sources import Source
from runtime.sources.file import FileSource
from runtime.sources.microphone import BlockQueue
from runtime.sources.pcm import Coding, PcmSource
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.05).astype(np.float32)


def all_of(source: Source) -> np.ndarray:
    return np.concatenate([np.empty(0, np.float32), *(block.samples for block in source)])


@pytest.fixture
def stop() -> Iterator[Stop]:
    with Stop() as stop:
        yield stop


# ---- the intake


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8))
@settings(max_examples=10, deadline=None)
def test_resampling_a_stream_does_not_depend_on_its_blocks(rate: int, cuts: list[int]) -> None:
    sound = noise(40_000).reshape(-1, 2)
    one, many = Resampler(rate, RATE), Resampler(rate, RATE)
    whole = np.concatenate([one.push(sound)[0], one.flush()])
    pieces = np.concatenate([*(many.push(piece)[0] for piece in np.split(sound, sorted(cuts))), many.flush()])
    assert np.array_equal(whole, pieces)
    assert abs(len(whole) - 20_000 * RATE / rate) <= 1


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=64), rate=st.sampled_from([16_000, 44_100]))
@settings(max_examples=100, deadline=None)
def test_whatever_a_device_sends_becomes_finite(values: list[float], rate: int) -> None:
    block = np.array(values, np.float32)[:, None]
    intake = Resampler(rate, RATE)
    samples, invalid = intake.push(block)
    samples = np.concatenate([samples, intake.flush()])
    assert np.isfinite(samples).all() and samples.dtype == np.float32
    assert invalid == int((~np.isfinite(block)).sum())
    assert np.abs(samples).max(initial=0) <= 3 * LARGEST


# ---- files


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_a_file_is_heard_as_offline_evaluation_hears_it(tmp_path: Path, stop: Stop, rate: int, channels: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(3 * rate * channels).reshape(-1, channels), rate)
    source = FileSource(path, RATE, stop)
    assert np.array_equal(all_of(source), load(path).samples)
    assert not source.live


def test_realtime_takes_its_time(tmp_path: Path, stop: Stop) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(RATE // 2), RATE)
    began = time.monotonic()
    blocks = list(FileSource(path, RATE, stop, realtime=True))
    assert time.monotonic() - began > 0.45
    assert len(blocks) == 25 and sum(len(block.samples) for block in blocks) == RATE // 2


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, stop: Stop) -> None:
    with pytest.raises(ShrikeError):
        FileSource(tmp_path / "x.wav", RATE, stop)


def test_a_constant_file_streams(tmp_path: Path, stop: Stop) -> None:
    path = tmp_path / "zeros.wav"
    soundfile.write(path, np.zeros(15 * RATE), RATE)
    assert len(all_of(FileSource(path, RATE, stop))) == 15 * RATE


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, stop: Stop, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, noise(4 * RATE), RATE)
    whole = load(path).samples
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source = FileSource(path, RATE, stop)
    blocks = list(source)  # two MP3 frames before the cut are decoded from less than all of their bits
    samples = np.concatenate([block.samples for block in blocks])
    assert 0.8 * RATE < len(samples) < 3 * RATE and np.array_equal(samples[:-2_304], whole[: len(samples) - 2_304])
    assert [block.flags for block in blocks if block.flags] == [("truncated",)] and source.truncated


def test_a_stopped_file_ends(tmp_path: Path, stop: Stop) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(RATE), RATE)
    stop.request()
    assert list(FileSource(path, RATE, stop)) == []


# ---- pipes


def piped(data: bytes, sizes: list[int], coding: Coding = "s16le", rate: int = RATE, channels: int = 1) -> list:
    """The blocks of these bytes, written in pieces of these sizes."""
    read, write = os.pipe()

    def feed() -> None:
        place = 0
        for size in [*sizes, len(data)]:
            os.write(write, data[place : place + size])
            place += size
        os.close(write)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        with Stop() as stop:
            return list(PcmSource(rate, coding, channels, RATE, stop, read))
    finally:
        thread.join()
        os.close(read)


def joined(blocks: list) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("coding", TYPES)
def test_every_coding_has_full_scale_one(coding: Coding) -> None:
    kind = np.dtype(TYPES[coding])
    wanted = np.array([-1.0, -0.5, 0.0, 0.5])
    if kind.kind == "f":
        data = wanted.astype(kind)
    else:
        half = 2 ** (8 * kind.itemsize - 1)
        data = (wanted * half + (half if kind.kind == "u" else 0)).astype(kind)
    assert np.allclose(joined(piped(data.tobytes(), [], coding)), wanted)


@given(sizes=st.lists(st.integers(1, 999), max_size=10), channels=st.integers(1, 3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_may_come_in_any_pieces(sizes: list[int], channels: int) -> None:
    data = (noise(3_000) * 32767).astype("<i2").tobytes()
    whole = joined(piped(data, [], channels=channels))
    assert np.array_equal(joined(piped(data, sizes, channels=channels)), whole)
    assert len(whole) == 3_000 // channels


@given(
    data=st.binary(min_size=1, max_size=4000).filter(lambda data: recognise(data) is None),
    coding=st.sampled_from(list(TYPES)),
    rate=st.sampled_from([8_000, 16_000, 96_000]),
)
@settings(max_examples=60, deadline=None)
def test_any_bytes_become_finite_samples(data: bytes, coding: Coding, rate: int) -> None:
    assert np.isfinite(joined(piped(data, [], coding, rate))).all()


def test_half_a_sample_at_the_end_is_reported() -> None:
    blocks = piped(b"\0" * 2001, [])
    assert blocks[-1].note


def test_a_pipe_in_which_nothing_comes_shows_that_we_are_alive() -> None:
    read, write = os.pipe()
    with Stop() as stop:
        blocks = iter(PcmSource(RATE, "s16le", 1, RATE, stop, read))
        assert len(next(blocks).samples) == 0
        threading.Timer(0.1, stop.request).start()
        assert list(blocks) == []
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(("changes", "word"), [({"rate": 100}, "rate"), ({"channels": 0}, "channels")])
def test_what_a_pipe_cannot_hold_is_refused(stop: Stop, changes: dict[str, int], word: str) -> None:
    with pytest.raises(ShrikeError, match=word):
        PcmSource(**{"rate": RATE, "coding": "s16le", "channels": 1, "wanted": RATE, "stop": stop, **changes})  # type: ignore[arg-type]


# ---- the queue between PortAudio's thread and ours


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60), most=st.integers(20, 200))
@settings(max_examples=100, deadline=None)
def test_the_newest_sound_wins_and_the_loss_is_counted(sizes: list[int], most: int) -> None:
    newest, sound = BlockQueue(most), np.arange(sum(sizes), dtype=np.float32)[:, None]
    for piece in np.split(sound, np.cumsum(sizes)[:-1]):
        newest.put(piece)
    received, lost = [], 0
    while got := newest.get(0):
        received.append(got[0])
        lost += got[3]
    heard = np.concatenate(received)
    assert lost + len(heard) == len(sound)
    assert np.array_equal(heard, sound[lost:])
    assert len(heard) <= most or len(received) == 1


def test_a_machine_that_stays_too_slow_still_gets_whole_frames() -> None:
    """Every fifth block comes too fast for it: holes must be few and long, with room for frames in between."""
    newest, holes = BlockQueue(32_000, 3_200), []
    for number in range(2_000):
        newest.put(np.zeros((320, 1), np.float32))
        if number % 5 and (got := newest.get(0)):
            holes.append(got[3])
    between = np.diff(np.flatnonzero(holes)) * 320
    assert len(between) > 10 and between.min() > 2 * 1728
    assert min(hole for hole in holes if hole) >= 3_200 and max(holes) <= 4_000  # short enough to keep the window


def test_what_the_driver_dropped_counts_as_well() -> None:
    newest = BlockQueue(1000)
    newest.put(np.zeros((10, 1), np.float32), missing=7)
    got = newest.get(0)
    assert got is not None and got[3] == 7
    assert newest.get(0.01) is None
