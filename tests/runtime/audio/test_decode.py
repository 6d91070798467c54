"""Whatever the bytes: a Clip that keeps its promises or an AudioError with one sentence."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio import decode as audio
from runtime.audio.decode import load
from runtime.support.errors import AudioError

SECOND = 16_000
LOSSLESS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("aiff", "PCM_16")]
LOSSY = [("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III")]
WAV_DATA_SIZE = 40  # byte at which a plain WAV header states the length of its data
FLAC_FRAMES = 21  # byte of a FLAC file that begins with the top four of 36 bits: how many frames there are

Signal = npt.NDArray[np.float32]


def tone(seconds: float = 1.0, rate: int = SECOND, hertz: float = 440.0) -> Signal:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * hertz * time) + 0.01 * noise).astype(np.float32)


def write(path: Path, samples: Signal, rate: int = SECOND, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def patched(path: Path, at: int, new: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def refused(path: str | os.PathLike[str]) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(AudioError) as caught:
        load(path)
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert str(path) not in sentence
    assert len(sentence) < 120
    return sentence


class TestWhatIsHeard:
    @pytest.mark.parametrize(("extension", "subtype"), LOSSLESS)
    def test_lossless_files_come_back_as_written(self, tmp_path: Path, extension: str, subtype: str) -> None:
        written = tone()
        clip = load(write(tmp_path / f"x.{extension}", written, subtype=subtype))
        assert clip.samples.dtype == np.float32
        assert clip.samples.shape == written.shape
        assert clip.rate == SECOND
        assert clip.notes == ()
        np.testing.assert_allclose(clip.samples, written, atol=2**-15)

    @pytest.mark.parametrize(("extension", "subtype"), LOSSY)
    def test_lossy_files_sound_as_written(self, tmp_path: Path, extension: str, subtype: str) -> None:
        written = tone()
        clip = load(write(tmp_path / f"x.{extension}", written, subtype=subtype))
        assert clip.samples.shape == written.shape
        assert clip.notes == ()
        assert np.corrcoef(clip.samples, written)[0, 1] > 0.99

    @pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000])
    def test_resampling_keeps_length_and_pitch(self, tmp_path: Path, rate: int) -> None:
        clip = load(write(tmp_path / "x.flac", tone(2.0, rate), rate))
        assert clip.notes == (f"resampled from {rate} Hz",)
        assert abs(len(clip.samples) - 2 * SECOND) <= 1
        spectrum = np.abs(np.fft.rfft(clip.samples[: 2 * SECOND - 1]))
        assert np.argmax(spectrum) / 2.0 == pytest.approx(440.0, abs=0.5)

    def test_the_rate_is_the_one_asked_for(self, tmp_path: Path) -> None:
        clip = load(write(tmp_path / "x.wav", tone()), rate=8_000)
        assert (clip.rate, len(clip.samples)) == (8_000, 8_000)

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        left, right = tone(), tone(hertz=1000.0)
        clip = load(write(tmp_path / "x.wav", np.stack([left, right], axis=1), subtype="FLOAT"))
        assert clip.notes == ("2 channels averaged",)
        np.testing.assert_allclose(clip.samples, (left + right) / 2, atol=1e-6)

    def test_eight_bits_are_kept_and_noted(self, tmp_path: Path) -> None:
        written = tone()
        clip = load(write(tmp_path / "x.wav", written, subtype="PCM_U8"))
        assert clip.notes == ("8-bit recording: its quantisation noise stays",)
        assert len(np.unique(clip.samples)) <= 256
        np.testing.assert_allclose(clip.samples, written, atol=2**-7)

    @pytest.mark.parametrize(("rate", "channels"), [(SECOND, 1), (44_100, 1), (48_000, 3)])
    def test_blocks_leave_no_trace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
    ) -> None:
        samples = np.stack([tone(1.0, rate, 200.0 * (channel + 1)) for channel in range(channels)], axis=1)
        path = write(tmp_path / "x.wav", samples)
        whole = load(path).samples
        monkeypatch.setattr(audio, "BLOCK", 1_000)
        np.testing.assert_array_equal(load(path).samples, whole)

    def test_silence_between_sound_is_sound(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audio, "BLOCK", 1_000)
        quiet, loud = np.full(1_000, 0.1, np.float32), np.full(1_000, 0.2, np.float32)
        for number, samples in enumerate([(quiet, tone(), quiet), (tone(), quiet), (quiet, loud)]):
            load(write(tmp_path / f"{number}.wav", np.concatenate(samples)))

    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
    def test_a_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        plain = write(tmp_path / "x.wav", tone())
        odd = os.path.join(os.fsencode(tmp_path), b"gr\xfc\xdfe.wav")
        os.rename(plain, odd)
        assert len(load(os.fsdecode(odd)).samples) == SECOND

    def test_real_speech(self, corpus_root: Path) -> None:
        folders = [folder for folder in (corpus_root / "flac", corpus_root / "ogg") if folder.is_dir()]
        assert folders
        for folder in folders:
            for path in sorted(folder.iterdir())[:20]:
                clip, header = load(path), soundfile.info(path)
                assert clip.notes == ()
                assert clip.rate == header.samplerate == SECOND
                assert len(clip.samples) == header.frames
                assert 0 < np.abs(clip.samples).max() < 1.5  # a lossy codec may exceed full scale


class TestWhatIsRefused:
    def test_files_that_are_none(self, tmp_path: Path) -> None:
        assert "no such file" in refused(tmp_path / "absent.wav")
        assert "directory" in refused(tmp_path)
        assert "cannot be opened" in refused(write(tmp_path / "x.wav", tone()) / "below.wav")
        assert "cannot be opened" in refused("a\0b.wav")
        (tmp_path / "empty.wav").touch()
        assert "empty" in refused(tmp_path / "empty.wav")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.wav")
        assert "pipe" in refused(tmp_path / "pipe.wav")

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "x.wav", tone())
        path.chmod(0)
        if os.access(path, os.R_OK):  # root may read everything
            monkeypatch.setattr(os, "access", lambda *_: False)
        assert "permission denied" in refused(path)

    @pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "txt"])
    def test_text_is_no_sound(self, tmp_path: Path, extension: str) -> None:
        path = tmp_path / f"x.{extension}"
        path.write_text("All happy families are alike; every unhappy family is unhappy in its own way.\n" * 20)
        assert "cannot be decoded" in refused(path)

    def test_sound_without_a_header(self, tmp_path: Path) -> None:
        (tmp_path / "x.raw").write_bytes(tone().tobytes())
        assert "convert it to WAV" in refused(tmp_path / "x.raw")

    @pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "aiff"])
    def test_headers_without_sound(self, tmp_path: Path, extension: str) -> None:
        refused(write(tmp_path / f"x.{extension}", np.zeros(0, np.float32)))

    @pytest.mark.parametrize("value", [0.0, 0.25])
    @pytest.mark.parametrize("rate", [SECOND, 44_100])
    def test_silence(self, tmp_path: Path, value: float, rate: int) -> None:
        assert "silent" in refused(write(tmp_path / "x.wav", np.full(rate, value, np.float32), rate))

    def test_channels_that_cancel(self, tmp_path: Path) -> None:
        assert "silent" in refused(write(tmp_path / "x.wav", np.stack([tone(), -tone()], axis=1), subtype="FLOAT"))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_non_finite_samples(self, tmp_path: Path, value: float, channels: int) -> None:
        samples = np.stack([tone()] * channels, axis=1)
        samples[SECOND // 2, 0] = value
        assert "NaN or infinite" in refused(write(tmp_path / "x.wav", samples, subtype="FLOAT"))

    def test_samples_too_large_to_resample(self, tmp_path: Path) -> None:
        samples = np.sign(tone(1.0, 44_100)) * np.float32(3.4e38)
        assert "too large" in refused(write(tmp_path / "x.wav", samples, 44_100, subtype="FLOAT"))

    def test_rates(self, tmp_path: Path) -> None:
        assert "4,000 Hz" in refused(write(tmp_path / "slow.wav", tone(1.0, 4_000), 4_000))
        absurd = patched(write(tmp_path / "fast.wav", tone()), 24, struct.pack("<I", 2_000_000_000))
        assert "2,000,000,000 Hz" in refused(absurd)

    def test_a_clip_that_resampling_leaves_nothing_of(self, tmp_path: Path) -> None:
        assert "too short" in refused(write(tmp_path / "x.wav", np.array([0.5, -0.5], np.float32), 96_000))


class TestLength:
    @pytest.mark.parametrize("extension", ["wav", "flac", "aiff", "mp3", "w64", "rf64", "au"])
    @pytest.mark.parametrize("share", [0.5, 0.8])
    def test_what_is_cut_off_is_refused(self, tmp_path: Path, extension: str, share: float) -> None:
        path = write(tmp_path / f"x.{extension}", tone(3.0))
        load(path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        assert refused(path).startswith(("cut off", "cannot be decoded"))

    def test_ogg_promises_nothing_and_is_noted(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.ogg", tone(3.0))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        clip = load(path)
        assert "cut off" in clip.notes[0]
        assert 0 < len(clip.samples) < 2.5 * SECOND

    @pytest.mark.parametrize(("extension", "word"), [("flac", "decoded"), ("ogg", "damaged")])
    def test_damage_in_the_middle(self, tmp_path: Path, extension: str, word: str) -> None:
        path = write(tmp_path / f"x.{extension}", tone(3.0))
        size = path.stat().st_size
        assert word in refused(patched(path, size // 2, np.random.default_rng(0).bytes(size // 8)))

    @pytest.mark.parametrize("claim", [0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF])
    def test_a_piped_recorder_claims_gigabytes(self, tmp_path: Path, claim: int) -> None:
        written = tone()
        path = patched(write(tmp_path / "x.wav", written), WAV_DATA_SIZE, struct.pack("<I", claim))
        clip = load(path)
        assert clip.notes == ("its header states no length: read to the end of the file",)
        np.testing.assert_allclose(clip.samples, written, atol=2**-15)

    def test_a_writer_that_counts_its_header_in(self, tmp_path: Path) -> None:
        path = patched(write(tmp_path / "x.wav", tone()), WAV_DATA_SIZE, struct.pack("<I", 2 * SECOND + 44))
        assert len(load(path).samples) == SECOND

    @pytest.mark.parametrize(
        ("frames", "sentence"),
        [(0, "does not state its length"), (2 * 3600 * SECOND, "lasts 2.0 h"), (2**36 - 1, "lasts 1,193.0 h")],
    )
    def test_absurd_headers(self, tmp_path: Path, frames: int, sentence: str) -> None:
        path = write(tmp_path / "x.flac", tone())
        top = path.read_bytes()[FLAC_FRAMES] & 0xF0  # four bits of it belong to the sample format
        patched(path, FLAC_FRAMES, bytes([top | frames >> 32]) + struct.pack(">I", frames & 0xFFFF_FFFF))
        assert sentence in refused(path)

    def test_an_mp3_without_table_of_contents(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mp3", tone(3.0))
        data = path.read_bytes()
        path.write_bytes(data[data.index(data[:2], 2) :])  # without its first frame
        assert "estimate" in load(path).notes[0]
        with_tag = b"ID3\x03\x00\x00\x00\x00\x0f\x76" + bytes(15 * 128 + 0x76) + data
        path.write_bytes(with_tag)
        assert load(path).notes == ()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytes")


@pytest.fixture(scope="module")
def originals(scratch: Path) -> list[bytes]:
    """One small file of every format and sample type that hostile bytes may begin as."""
    kinds = [*LOSSLESS, *LOSSY, ("wav", "IMA_ADPCM"), ("wav", "ULAW"), ("wav", "GSM610"), ("caf", "PCM_16")]
    return [write(scratch / f"x.{kind}", tone(0.2), subtype=subtype).read_bytes() for kind, subtype in kinds]


class TestAnyBytes:
    def holds(self, path: Path) -> None:
        try:
            clip = load(path)
        except AudioError as error:
            assert str(error)
            assert "\n" not in str(error)
        else:
            assert clip.samples.ndim == 1
            assert len(clip.samples) > 0
            assert np.isfinite(clip.samples).all()

    @given(data=st.binary(max_size=4096), extension=st.sampled_from(["wav", "flac", "ogg", "mp3", "raw", ""]))
    @settings(max_examples=150, deadline=None)
    def test_random_bytes(self, scratch: Path, data: bytes, extension: str) -> None:
        path = scratch / f"random.{extension}"
        path.write_bytes(data)
        self.holds(path)

    @given(
        which=st.integers(0, 11),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=8),
        header=st.booleans(),
        share=st.floats(0.01, 1),
    )
    @settings(max_examples=300, deadline=None)
    def test_damaged_files(
        self,
        scratch: Path,
        originals: list[bytes],
        which: int,
        changes: list[tuple[float, bytes]],
        header: bool,
        share: float,
    ) -> None:
        original = originals[which % len(originals)]
        data = bytearray(original)
        for place, new in changes:
            at = int(place * (min(128, len(data)) if header else len(data)))
            data[at : at + len(new)] = new
        path = scratch / "damaged"
        path.write_bytes(data[: max(1, int(share * len(data)))])
        self.holds(path)


def test_importing_is_cheap() -> None:
    command = "import sys, runtime.audio.decode; print({'soundfile', 'soxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
