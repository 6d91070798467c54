"""Whatever sound comes, in whatever pieces, types and rates: scores that do not depend on the pieces, or one line."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from runtime.audio.containers import MOST_CHANNELS, TYPES
from runtime.audio.decode import MAX_RATE, MIN_RATE, load
from runtime.audio.features import PRESETS, RATE
from runtime.audio.framer import Score
from runtime.audio.quality import FLAGS
from runtime.audio.resampler import Resampler
from runtime.card.model_card import read_card
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.scorer import StreamScorer
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sources.file import FileSource
from runtime.sources.pcm import EmptyInputError, PcmSource
from runtime.support.errors import AudioError, ShrikeError
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict
from tests.runtime.fuzzing import EDITS, Edit, damaged, fuzzed
from tests.runtime.made_model import made_model

ROOT = Path(__file__).resolve().parents[2]
FOLDER = tempfile.TemporaryDirectory()  # gone when the tests end
LONGEST = 1_000  # characters of a message: a path and a sentence or two
FORMATS = (("flac", "PCM_16"), ("flac", "PCM_24"), ("wav", "PCM_16"), ("wav", "FLOAT"), ("wav", "ULAW")) + (
    ("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_16"), ("caf", "ALAC_16"),
)  # fmt: skip


class Mean:
    """An engine whose score is the window's mean."""

    name, precision = "mean", "fp32"

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.array([[0.0, features.mean()]], np.float32)

    def close(self) -> None: ...


# ---- the scorer

PIECES = st.lists(
    st.tuples(
        st.integers(0, 20_000),
        st.sampled_from(["noise", "zeros", "full scale", "huge", "infinite", "tiny", "one value"]),
    ),
    min_size=1,
    max_size=8,
)


def sound(pieces: list[tuple[int, str]]) -> np.ndarray:
    rng, out = np.random.default_rng(len(pieces)), []
    for length, kind in pieces:
        noise = rng.standard_normal(length).astype(np.float32)
        with np.errstate(over="ignore"):
            out.append(
                {
                    "noise": noise * np.float32(0.05),
                    "zeros": noise * 0,
                    "full scale": np.sign(noise),
                    "huge": noise * np.float32(3e38),
                    "infinite": np.where(noise > 1, np.float32(np.inf), -np.float32(np.inf)),
                    "tiny": noise * np.float32(1e-42),
                    "one value": np.full(length, 0.25, np.float32),
                }[kind].astype(np.float32)
            )
    return np.concatenate(out)


def scores_of(preset: str, samples: np.ndarray, cuts: list[int], step: int) -> list[Score]:
    scorer = StreamScorer(Mean(), PRESETS[preset], min(step, PRESETS[preset].width))
    scores = [score for piece in np.split(samples, sorted(cuts)) for score in scorer.push(piece)]
    assert scorer.framer.position == len(samples)
    return scores + scorer.finish()


@fuzzed(
    few=40, many=4_000, pieces=PIECES, cuts=st.lists(st.integers(0, 160_000), max_size=30), step=st.integers(1, 600),
    preset=st.sampled_from(list(PRESETS)),
)  # fmt: skip
def test_any_samples_in_any_pieces(pieces: list[tuple[int, str]], cuts: list[int], step: int, preset: str) -> None:
    samples = sound(pieces)
    whole = scores_of(preset, samples, [], step)
    assert scores_of(preset, samples, cuts, step) == whole
    assert all(np.isfinite(score.value) for score in whole)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_floats_of_any_width_are_the_same_sound(kind: str) -> None:
    samples = (np.random.default_rng(0).standard_normal(3 * RATE) * 0.05).astype(np.float16)
    assert scores_of("f0", samples.astype(kind), [7, 5_000], 12) == scores_of("f0", samples.astype("f4"), [], 12)
    assert scores_of("f0", samples.astype("f4")[::2], [], 12) == scores_of(
        "f0", samples.astype("f4")[::2].copy(), [], 12
    )


@pytest.mark.parametrize(
    "samples",
    [np.zeros((100, 2), np.float32), np.zeros(100, np.int16), np.zeros(100, bool), np.array(["a"]), np.float32(1)],
    ids=["channels", "int16", "bool", "text", "a number"],
)
def test_what_is_no_row_of_floats_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(ShrikeError):
        StreamScorer(Mean(), PRESETS["f0"]).push(samples)


@pytest.mark.parametrize("at", [0, 5_000, -1])
def test_non_finite_samples_are_refused_before_it_spoils_a_window(at: int) -> None:
    scorer, samples = StreamScorer(Mean(), PRESETS["f0"]), np.zeros(RATE, np.float32)
    samples[at] = np.nan
    with pytest.raises(ShrikeError):
        scorer.push(samples)
    assert scorer.framer.position == 0 and np.isfinite(scorer.push(np.zeros(2 * RATE, np.float32))[0].value)


# ---- pipes


def heard(data: bytes, sizes: list[int], coding: str, rate: int, channels: int) -> tuple[list[Verdict], float]:
    """Verdicts of a session that listens to these bytes, and the seconds it heard."""
    verdicts: list[Verdict] = []

    class Keep(Sink):
        def verdict(self, verdict: Verdict, latency: float | None) -> None:
            verdicts.append(verdict)

    read, write = os.pipe()

    def feed() -> None:
        place = 0
        with os.fdopen(write, "wb", buffering=0) as pipe:
            for size in [*sizes, len(data)]:
                pipe.write(data[place : place + size])
                place += size

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        with Stop() as stop:
            source = PcmSource(rate, coding, channels, RATE, stop, read)  # type: ignore[arg-type]
            card = read_card(model())
            summary = Session(LoadedModel(Mean(), card, "a mean", "", "mean"), [Keep()], VerdictOptions()).run(
                source, stop
            )
    finally:
        thread.join()
        os.close(read)
    return verdicts, summary.seconds


@lru_cache
def model() -> Path:
    return made_model(Path(FOLDER.name), "wide")


@fuzzed(
    few=25, many=2_000, data=st.one_of(st.binary(max_size=4_000), st.integers(0, 2**32)), repeats=st.integers(1, 40),
    sizes=st.lists(st.integers(0, 70_000), max_size=6), coding=st.sampled_from(list(TYPES)),
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 384_000]),
    channels=st.sampled_from([1, 2, 3, 7, MOST_CHANNELS]),
)  # fmt: skip
def test_any_bytes_at_any_rate_in_any_pieces(
    data: bytes | int, repeats: int, sizes: list[int], coding: str, rate: int, channels: int
) -> None:
    block = data if isinstance(data, bytes) else np.random.default_rng(data).bytes(4_000)
    if not block * repeats:
        with pytest.raises(EmptyInputError):
            heard(b"", sizes, coding, rate, channels)
        return
    verdicts, seconds = heard(block * repeats, sizes, coding, rate, channels)
    whole = len(block * repeats) // (np.dtype(TYPES[coding]).itemsize * channels)
    assert abs(seconds - whole / rate) < 0.01
    assert len(verdicts) <= seconds / 0.0975 + 1
    for verdict in verdicts:
        judged = [verdict.score, verdict.llr, verdict.smoothed, verdict.p_spoof]
        assert (verdict.state in ("no-voice", "too-short") and judged == [None] * 4) or np.isfinite(judged).all()
        assert verdict.p_spoof is None or 0 <= verdict.p_spoof <= 1
        assert np.isfinite(verdict.quality.level) and set(verdict.quality.flags) <= set(FLAGS)


@fuzzed(
    few=40, many=4_000, rate=st.integers(-10, 400_000), channels=st.integers(-2, 70),
    coding=st.sampled_from([*TYPES, "s24le", "", "U8"]) | st.text(max_size=6),
)  # fmt: skip
def test_any_settings_of_a_pipe_are_taken_or_one_line(rate: int, channels: int, coding: str) -> None:
    right = MIN_RATE <= rate <= MAX_RATE and 1 <= channels <= MOST_CHANNELS and coding in TYPES
    read, write = os.pipe()
    try:
        with Stop() as stop:
            PcmSource(rate, coding, channels, RATE, stop, read)  # type: ignore[arg-type]
    except ShrikeError as error:
        assert not right and str(error).isprintable() and str(error).startswith(("--rate", "--channels", "--dtype"))
    else:
        assert right
    finally:
        os.close(read)
        os.close(write)


# ---- the intake

SPECIAL = [0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 1e-45]


@fuzzed(
    few=40, many=4_000, values=st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(width=32)), max_size=300),
    channels=st.integers(1, 9), rate=st.sampled_from([8_000, 16_000, 44_100, 384_000]),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)  # fmt: skip
def test_whatever_a_device_sends_in_any_pieces(values: list[float], channels: int, rate: int, cuts: list[int]) -> None:
    block = np.array(values, np.float32)[: len(values) // channels * channels].reshape(-1, channels)
    whole, pieces = Resampler(rate, RATE), Resampler(rate, RATE)
    one = np.concatenate([whole.push(block)[0], whole.flush()])
    parts = [pieces.push(part) for part in np.split(block, sorted(cuts))]
    assert np.array_equal(one, np.concatenate([*(samples for samples, _ in parts), pieces.flush()]))
    assert sum(invalid for _, invalid in parts) == int((~np.isfinite(block)).sum())
    assert np.isfinite(one).all() and one.dtype == np.float32


# ---- files


@lru_cache
def original(kind: str, subtype: str) -> bytes:
    """A quarter of a second of a tone in noise, two channels."""
    rng, times = np.random.default_rng(0), np.arange(11_025) / 44_100
    both = np.stack([np.sin(2 * np.pi * 200 * times), rng.standard_normal(len(times)) * 0.1], axis=1) * 0.3
    rate = 48_000 if subtype == "OPUS" else 44_100
    path = Path(FOLDER.name) / f"{subtype}.{kind}"
    soundfile.write(path, both, rate, subtype=subtype)
    return path.read_bytes()


@fuzzed(few=150, many=8_000, which=st.sampled_from(FORMATS), edits=EDITS, suffix=st.sampled_from(["", ".wav", ".mp3"]))
def test_a_damaged_file_is_a_clip_or_one_line(which: tuple[str, str], edits: list[Edit], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        path = Path(folder) / f"call{suffix or '.' + which[0]}"
        path.write_bytes(damaged(original(*which), edits))
        try:
            source = FileSource(path, RATE, stop)
        except ShrikeError as error:
            assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < LONGEST
            assert str(error).startswith(f"{path}: ")
        else:
            blocks = list(source)
            samples = np.concatenate([block.samples for block in blocks])
            assert np.isfinite(samples).all() and samples.dtype == np.float32 and len(samples) < 100 * RATE
            assert len(samples) or "truncated" in blocks[-1].flags
            scores_of("f0", samples[: 2 * RATE], [100], 12)


@pytest.mark.parametrize("which", FORMATS, ids=lambda which: "-".join(which))
def test_every_format_can_be_cut_at_every_place(which: tuple[str, str]) -> None:
    whole = original(*which)
    path = Path(FOLDER.name) / f"cut.{which[0]}"
    path.write_bytes(whole)
    full = len(load(path).samples)
    for share in np.linspace(0, 1, 41)[:-1]:
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            assert len(load(path).samples) <= full
        except AudioError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "name", ["a\nb.wav", "a\x1b[2J.wav", "\udcff.wav", "a\0b.wav", "x" * 300, "", ".", "/dev/null"]
)
def test_odd_names_are_one_printable_line(name: str) -> None:
    with Stop() as stop, pytest.raises(ShrikeError) as caught:
        FileSource(Path(FOLDER.name, name) if "\0" not in name else name, RATE, stop)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["a\nb.onnx", "a\x1b[2J.onnx", "\udcff.onnx", "x" * 300 + ".onnx", "/dev/null", "/dev/zero"]
)
def test_odd_names_of_models_are_one_printable_line(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / name, Path(name).with_suffix(".engine")):
        with pytest.raises(ShrikeError) as caught:
            load_model(path, "auto")
        assert str(caught.value).isprintable()


def test_a_name_that_is_no_utf_8_is_scored_and_named(tmp_path: Path) -> None:
    """On a terminal with UTF-8 such a name could not be written as it is."""
    path = os.fsencode(tmp_path) + b"/caf\xe9\n.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(2 * RATE) * 0.05, RATE, format="WAV")
    words = [sys.executable, "-m", "runtime.stream", "--model", str(model()), "--file", path]
    for more in ([], ["--json"]):
        done = subprocess.run([*words, *more], cwd=ROOT, capture_output=True, timeout=60, env={"LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        last = done.stdout.decode().splitlines()[-1]
        assert (json.loads(last)["source"] if more else last).startswith(f"{tmp_path}/caf\\udce9\\n.wav")
