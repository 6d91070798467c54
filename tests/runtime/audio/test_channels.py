"""Channels: which are judged on their own, and when two of them cancel in their mix."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.channels import FIRST, AntiphaseMeter, check_channel, differ, mono, names, plan, plan_samples
from runtime.audio.resampler import Resampler
from runtime.support.errors import ShrikeError
from tests.runtime.speech import speech

RATE = 16_000
SOUND = (np.random.default_rng(0).standard_normal(3 * RATE) * 0.05).astype(np.float32)
OTHER = (np.random.default_rng(1).standard_normal(3 * RATE) * 0.05).astype(np.float32)
ZEROS = np.zeros_like(SOUND)


def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        *((SOUND, ("mix",)), (OTHER, ("left", "right")), (ZEROS, ("left", "right")), (-SOUND, ("left", "right"))),
        *((SOUND / 2, ("left", "right")), (SOUND + 1e-3 * OTHER, ("mix",)), (SOUND + OTHER / 3, ("left", "right"))),
    ],
    ids=["the same", "another", "silent", "inverted", "quieter", "its own noise", "a part"],
)
def test_two_channels_are_judged_where_they_differ(tmp_path: Path, right: np.ndarray, expected: tuple[str]) -> None:
    sound = pair(SOUND, right)
    soundfile.write(tmp_path / "x.wav", sound, RATE, subtype="FLOAT")
    assert plan(tmp_path / "x.wav") == plan_samples(sound, RATE) == expected


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_a_codec_does_not_part_equal_channels(tmp_path: Path, kind: str) -> None:
    soundfile.write(tmp_path / f"x.{kind}", pair(SOUND, SOUND), 44_100)
    assert plan(tmp_path / f"x.{kind}") == ("mix",)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
def test_nor_do_those_of_telephones_and_browsers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", pair(speech(8.0), speech(8.0)), RATE)
    for name, options in {"x.m4a": "-ar 48000 -c:a aac -b:a 128k", "x.webm": "-c:a libopus -b:a 32k"}.items():
        words = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "x.wav"), *options.split(), str(tmp_path / name)]
        subprocess.run(words, check=True)
        assert plan(tmp_path / name) == ("mix",)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("wanted", ["left", "right", "mix", "each", None])
def test_what_is_wanted_is_done(tmp_path: Path, count: int, wanted: str | None) -> None:
    sound = np.random.default_rng(0).standard_normal((RATE, count)) * 0.1
    soundfile.write(tmp_path / "x.wav", sound, RATE)
    planned = plan(tmp_path / "x.wav", wanted)
    assert planned == plan_samples(sound.astype(np.float32), RATE, wanted)
    if count == 1 or wanted == "mix" or (wanted is None and count > 2):
        assert planned == ("mix",)
    else:
        assert planned == (names(count) if wanted in ("each", None) else (wanted,))


def test_a_late_difference_in_a_long_file_is_found(tmp_path: Path) -> None:
    sound = np.tile(pair(SOUND, SOUND), (40, 1))
    sound[(FIRST + 10) * RATE : (FIRST + 25) * RATE, 1] *= -1
    soundfile.write(tmp_path / "x.flac", sound, RATE)
    assert plan(tmp_path / "x.flac") == ("left", "right")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"no sound")
    with pytest.raises(ShrikeError, match=r"x\.wav"):
        plan(tmp_path / "x.wav")


@given(values=st.lists(st.floats(width=32), max_size=50))
@settings(max_examples=100, deadline=None)
def test_any_values_can_be_compared(values: list[float]) -> None:
    block = np.resize(np.array(values, np.float32), (len(values), 2))
    assert differ(block) in (True, False)
    meter = AntiphaseMeter(100)
    meter.push(np.nan_to_num(block))
    assert meter.present is False


def test_mono_takes_a_channel_or_the_mean() -> None:
    block = np.stack([SOUND, OTHER, ZEROS], axis=1)
    assert np.array_equal(mono(block, "left"), SOUND) and np.array_equal(mono(block, "3"), ZEROS)
    assert np.allclose(mono(block, "mix"), (SOUND + OTHER) / 3, atol=1e-7)
    assert np.array_equal(mono(block[:, :1], "right"), SOUND)  # the only channel there is
    for channel, count in (("right", 1), ("mix", 5), ("5", 5)):
        check_channel(channel, count)
    for channel in ("3", "0", "middle", ""):
        with pytest.raises(ShrikeError):
            check_channel(channel, 2)


# ---- antiphase


def flagged(block: np.ndarray, channel: str = "mix") -> bool:
    resampler = Resampler(RATE, RATE, channel)
    resampler.push(block)
    return resampler.flags == ("antiphase",)


@pytest.mark.parametrize(
    ("right", "cancels"),
    [
        *((-SOUND, True), (-0.6 * SOUND, True), (0.2 * OTHER - SOUND, True)),
        *((SOUND, False), (OTHER, False), (-0.3 * SOUND, False), (OTHER - SOUND, False), (ZEROS, False)),
    ],
    ids=["inverted", "and quieter", "and noisy", "the same", "another", "much quieter", "half", "silent"],
)
def test_channels_that_cancel_are_flagged(right: np.ndarray, cancels: bool) -> None:
    block = pair(SOUND, right)
    assert flagged(block) is cancels
    assert not flagged(block, "left") and not flagged(block[: RATE // 2]) and not flagged(block / 1000)
    assert not flagged(np.concatenate([block, pair(SOUND, SOUND)]))  # it is over


@given(cuts=st.lists(st.integers(0, 3 * RATE), max_size=20), part=st.floats(-1, 1))
@settings(max_examples=40, deadline=None)
def test_the_flag_does_not_depend_on_blocks(cuts: list[int], part: float) -> None:
    block = pair(SOUND, np.float32(part) * SOUND + np.float32(1 - abs(part)) * OTHER)
    whole, pieces = AntiphaseMeter(RATE), AntiphaseMeter(RATE)
    whole.push(block)
    for piece in np.split(block, sorted(cuts)):
        pieces.push(piece)
    assert np.allclose(whole._means, pieces._means) and whole._loud == pieces._loud
