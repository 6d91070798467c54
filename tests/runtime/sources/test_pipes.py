"""Containers in a pipe: their own header counts, in any pieces; nothing else is scored as raw samples."""

import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.decode import load
from runtime.sources import Block
from runtime.sources.pcm import EmptyInputError, PcmSource
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop
from tests.runtime.made_model import made_model

ROOT = Path(__file__).resolve().parents[3]
RATE = 16_000
SOUND = (np.random.default_rng(0).standard_normal((22_050, 2)) * 0.1).astype(np.float32)  # half a second
installed = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")


def container(kind: str, subtype: str | None = None, rate: int = 44_100) -> bytes:
    box = io.BytesIO()
    soundfile.write(box, SOUND, rate, format=kind, subtype=subtype)
    return box.getvalue()


def piped(data: bytes, sizes: tuple[int, ...] = (), **options: Any) -> list[Block]:
    """The blocks of these bytes, written in pieces of these sizes."""
    read, write = os.pipe()

    def feed() -> None:
        place = 0
        try:
            for size in [*sizes, *[65_536] * (len(data) // 65_536 + 1)]:
                os.write(write, data[place : place + size])
                place += size
        except BrokenPipeError:
            pass
        os.close(write)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        with Stop() as stop:
            source = PcmSource(RATE, "s16le", 1, RATE, stop, read, **options)
            try:
                return list(source)
            finally:
                source.close()
    finally:
        os.close(read)
        thread.join()


def joined(blocks: list[Block]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


def offline(data: bytes, folder: Path) -> np.ndarray:
    (folder / "x").write_bytes(data)
    return load(folder / "x").samples


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_wav_counts_as_its_file(tmp_path: Path, subtype: str) -> None:
    data = container("WAV", subtype)
    blocks = piped(data)
    assert np.array_equal(joined(blocks), offline(data, tmp_path))
    assert [block.note for block in blocks if block.note] and not any(block.flags for block in blocks)


@given(sizes=st.lists(st.integers(1, 3_000), max_size=30))
@settings(max_examples=30, deadline=None)
def test_wav_may_come_in_any_pieces(sizes: list[int]) -> None:
    data = container("WAV")
    assert np.array_equal(joined(piped(data, tuple(sizes))), joined(piped(data)))


def test_chunks_around_the_samples_are_no_sound(tmp_path: Path) -> None:
    data = container("WAV")
    note = b"LIST" + (5_001).to_bytes(4, "little") + bytes(5_002)
    assert np.array_equal(joined(piped(data[:12] + note + data[12:] + note)), joined(piped(data)))


def test_one_channel_may_be_chosen() -> None:
    data = container("WAV", "FLOAT", RATE)
    assert np.array_equal(joined(piped(data, channel="right")), SOUND[:, 1])


def test_a_cut_wav_is_flagged() -> None:
    data = container("WAV")
    blocks = piped(data[: len(data) // 2])
    assert blocks[-1].flags == ("truncated",) and len(joined(blocks)) == pytest.approx(RATE / 4, abs=20)
    endless = data[:40] + b"\xff\xff\xff\xff" + data[44:]
    assert not any(block.flags for block in piped(endless[: len(data) // 2]))


@installed
@pytest.mark.parametrize("kind", ["FLAC", "AIFF"])
def test_ffmpeg_decodes_other_containers(tmp_path: Path, kind: str) -> None:
    data = container(kind)
    blocks = piped(data)
    assert np.array_equal(joined(blocks), offline(data, tmp_path)) and not any(block.flags for block in blocks)


@installed
@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", None), ("WAV", "ULAW")])
def test_ffmpeg_decodes_compressed_sound(tmp_path: Path, kind: str, subtype: str | None) -> None:
    data = container(kind, subtype)
    sound, wanted = joined(piped(data, (3, 20, 1))), offline(data, tmp_path)
    assert abs(len(sound) - len(wanted)) < 0.1 * RATE
    assert np.std(sound) == pytest.approx(np.std(wanted), rel=0.1)


@installed
def test_webm_as_browsers_record_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.tile(SOUND, (8, 1)), 44_100)
    words = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "x.wav"), "-c:a", "libopus", "-f", "webm", "-"]
    data = subprocess.run(words, capture_output=True, check=True).stdout
    assert len(joined(piped(data))) == pytest.approx(4 * RATE, rel=0.05)


BROKEN = [b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt ", b"fLaC", b"OggS\0", b"ID3\x04", b"caff\0"]


@pytest.mark.parametrize("start", BROKEN)
@pytest.mark.parametrize("path", [os.environ["PATH"], ""], ids=["ffmpeg", "none"])
def test_a_broken_header_is_not_scored_as_sound(start: bytes, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)
    with pytest.raises(ShrikeError) as caught:
        piped(start + bytes(200_000))
    assert caught.value.code == 2 and str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_without_ffmpeg_a_container_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ShrikeError, match="ffmpeg"):
        piped(container(kind))


@pytest.mark.parametrize("data", [b"", container("WAV")[:44]], ids=["nothing", "a header"])
def test_a_pipe_without_sound_has_an_exit_code_of_its_own(data: bytes) -> None:
    with pytest.raises(EmptyInputError) as caught:
        piped(data)
    assert caught.value.code == 5


@installed
def test_a_stop_ends_a_stream_that_waits() -> None:
    read, write = os.pipe()
    data = container("FLAC")
    os.write(write, data[:20_000])
    with Stop() as stop:
        source = PcmSource(RATE, "s16le", 1, RATE, stop, read)
        threading.Timer(1.5, stop.request).start()
        blocks = list(source)
        source.close()
    assert not any(block.flags for block in blocks)
    os.close(write)
    os.close(read)


def test_the_command_ends_with_code_5(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "runtime.stream", "--stdin", "--model", str(made_model(tmp_path))]
    done = subprocess.run(words, cwd=ROOT, input=b"", capture_output=True, timeout=60)
    assert done.returncode == 5 and b"Traceback" not in done.stderr
