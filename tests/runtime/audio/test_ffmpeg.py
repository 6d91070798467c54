"""ffmpeg opens what libsndfile cannot: any name, every channel, damaged files; and nothing but the one file."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.decode import load
from runtime.audio.ffmpeg import Ffmpeg, FfmpegSound, open_file
from runtime.sources.file import FileSource
from runtime.support.errors import AudioError, ShrikeError
from runtime.support.shutdown import Stop

RATE = 16_000
SECONDS = 4
CODECS = {"m4a": "aac", "mp4": "aac", "mkv": "libopus", "webm": "libopus", "wma": "wmav2", "mka": "pcm_s16le"}
installed = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """440 Hz on the left, 1000 Hz on the right, with some noise."""
    path, times = tmp_path_factory.mktemp("sound") / "x.wav", np.arange(SECONDS * RATE) / RATE
    tones = 0.1 * np.sin(2 * np.pi * times[:, None] * [440, 1000])
    soundfile.write(path, tones + 0.01 * np.random.default_rng(0).standard_normal(tones.shape), RATE)
    return path


def convert(wav: Path, target: Path) -> Path:
    codec = CODECS[target.suffix[1:]]
    words = ["ffmpeg", "-y", "-v", "error", "-i", str(wav), "-c:a", codec, f"file:{target}"]
    subprocess.run(words, check=True)
    return target


def samples(path: Path, channel: str = "mix") -> tuple[np.ndarray, bool]:
    with Stop() as stop:
        source = FileSource(path, RATE, stop, channel=channel)
        sound = np.concatenate([block.samples for block in source])
        source.close()
    return sound, source.truncated


@installed
@pytest.mark.parametrize("ending", CODECS)
def test_each_channel_is_its_own(wav: Path, tmp_path: Path, ending: str) -> None:
    path = convert(wav, tmp_path / f"x.{ending}")
    for channel, pitch in (("left", 440), ("right", 1000)):
        sound, truncated = samples(path, channel)
        assert abs(len(sound) - SECONDS * RATE) < 0.15 * RATE and not truncated
        assert np.abs(np.fft.rfft(sound[RATE : 2 * RATE])).argmax() == pytest.approx(pitch, abs=2)


@installed
def test_uncompressed_samples_are_those_of_libsndfile(wav: Path, tmp_path: Path) -> None:
    sound, _ = samples(convert(wav, tmp_path / "x.mka"))
    assert np.array_equal(sound, load(wav).samples)


@installed
@pytest.mark.parametrize("name", ["-i.m4a", "-x:%d.mka", "http:x.m4a", "a b'$;\n.m4a", "concat:x|y.mka", "\udcff.m4a"])
def test_any_name_is_a_file(wav: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.rename(convert(wav, tmp_path / f"plain.{name[-3:]}"), os.fsencode(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    assert len(samples(Path(name))[0]) > RATE


@installed
@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:4,\nx.wav\n", "ffconcat version 1.0\nfile x.wav\n"])
def test_a_playlist_opens_no_other_file(wav: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(wav, tmp_path / "x.wav")
    for name in ("list.m3u8", "list.ffconcat", "list.m4a"):
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError):
            open_file(tmp_path / name)


@installed
def test_only_the_first_sound_of_a_film_is_decoded(wav: Path, tmp_path: Path) -> None:
    film, second = tmp_path / "film.mkv", ["-f", "lavfi", "-i", "sine=3000:duration=4"]
    picture = ["-f", "lavfi", "-i", "testsrc=duration=4:size=64x64:rate=5"]
    maps = ["-map", "0", "-map", "1", "-map", "2"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-i", str(wav), *second, *maps, str(film)], check=True)
    sound, _ = samples(film, "left")
    assert np.abs(np.fft.rfft(sound[RATE : 2 * RATE])).argmax() == pytest.approx(440, abs=2)


@installed
@pytest.mark.parametrize("ending", ["mkv", "webm", "wma"])
def test_a_cut_file_is_read_as_far_as_it_goes(wav: Path, tmp_path: Path, ending: str) -> None:
    path = convert(wav, tmp_path / f"x.{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    sound, truncated = samples(path)
    assert truncated and RATE < len(sound) < 3.5 * RATE


@installed
def test_floods_of_messages_do_not_block(wav: Path, tmp_path: Path) -> None:
    """Each damaged packet is a message; together they fill the pipe of stderr many times over."""
    sound, path = tmp_path / "long.wav", tmp_path / "x.m4a"
    soundfile.write(sound, np.tile(soundfile.read(wav)[0], (60, 1)), RATE)
    convert(sound, path)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in range(data.index(b"mdat") + 8, len(data) - 20_000, 97):
        data[place : place + 20] = rng.bytes(20)
    path.write_bytes(data)
    assert samples(path)[1]


@installed
def test_files_without_a_length_are_decoded(wav: Path, tmp_path: Path) -> None:
    """Those of recorders that ended early, and of pipes; of an MP3 libsndfile would read what it estimates."""
    mp3, loud = tmp_path / "x.mp3", tmp_path / "loud.wav"
    soundfile.write(loud, np.concatenate([np.zeros((9 * RATE, 2)), soundfile.read(wav)[0]]), RATE)
    words = ["ffmpeg", "-v", "error", "-i", str(loud), "-q:a", "4", "-write_xing", "0", str(mp3)]
    subprocess.run(words, check=True)
    assert len(samples(mp3)[0]) == pytest.approx(13 * RATE, rel=0.02)
    data = bytearray(wav.read_bytes())
    data[40:44] = bytes(4)
    (tmp_path / "cut.wav").write_bytes(data)
    flac = subprocess.run(["ffmpeg", "-v", "error", "-i", wav, "-f", "flac", "-"], capture_output=True, check=True)
    (tmp_path / "piped.flac").write_bytes(flac.stdout)
    for name in ("cut.wav", "piped.flac"):
        assert np.array_equal(samples(tmp_path / name)[0], load(wav).samples)


@installed
@pytest.mark.parametrize("data", [b"no sound", bytes(5_000), b"\0\0\0\x18ftypM4A " + bytes(100)])
def test_what_neither_decodes_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x\n.m4a"
    path.write_bytes(data)
    with Stop() as stop, pytest.raises(ShrikeError) as caught:
        FileSource(path, RATE, stop)
    assert str(caught.value).isprintable() and "ffmpeg" in str(caught.value)


@installed
def test_closing_ends_the_child(wav: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mka"
    subprocess.run(["ffmpeg", "-v", "error", "-stream_loop", "100", "-i", wav, "-c:a", "pcm_s16le", path], check=True)
    sound = FfmpegSound(Ffmpeg(path, "a test"), "a test")
    child = sound._child._process
    assert child.poll() is None  # the pipe is full, and it waits
    sound.close()
    sound.close()
    assert child.poll() is not None


def test_without_ffmpeg_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.m4a").write_bytes(bytes(range(256)) * 40)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AudioError, match="ffmpeg"):
        open_file(tmp_path / "x.m4a")


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.m4a").write_bytes(bytes(range(256)) * 40)
    monkeypatch.setattr("shutil.which", lambda _: str(tmp_path / "x.m4a"))
    with pytest.raises(AudioError, match="ffmpeg"):
        open_file(tmp_path / "x.m4a")
