"""Containers by their first bytes: files are recognised, raw samples are not, and WAV is decoded as libsndfile does."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.containers import (
    MOST_HEADER,
    MP3_NEEDED,
    NEEDED,
    PcmFormat,
    WavHeader,
    bytes_needed,
    parse_wav,
    recognise,
)
from runtime.support.errors import AudioError

RATE = 16_000
SOUND = (np.random.default_rng(0).standard_normal((RATE // 4, 2)) * 0.1).astype(np.float32)
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def written(kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    box = io.BytesIO()
    soundfile.write(box, SOUND, rate, format=kind, subtype=subtype)
    return box.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("WAV", "WAV"), ("WAVEX", "WAV"), ("RF64", "WAV"), ("FLAC", "FLAC"), ("OGG", "Ogg"), ("AIFF", "AIFF")),
        *(("MP3", "MP3"), ("CAF", "CAF")),
    ],
)
def test_files_are_recognised_by_their_first_bytes(kind: str, name: str) -> None:
    data = written(kind)
    assert recognise(data[: bytes_needed(data)]) == name


def test_an_mp3_without_a_tag_needs_two_frames() -> None:
    data = written("MP3", rate=44_100)
    assert data[0] == 0xFF and bytes_needed(data) == MP3_NEEDED and recognise(data[:100]) is None


@given(data=st.binary(max_size=5_000))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_raw_samples(data: bytes) -> None:
    assert bytes_needed(data) in (NEEDED, MP3_NEEDED)
    assert recognise(b"\0" + data) is None or data[3:7] == b"ftyp"


def test_loud_samples_are_no_mp3() -> None:
    """Their first bytes may be those of an MPEG frame; the second frame is missing."""
    loud = b"\xff\xfb\x90\x64" + (np.random.default_rng(0).standard_normal(9_000) * 9_000).astype("<i2").tobytes()
    assert bytes_needed(loud) == MP3_NEEDED and recognise(loud) is None


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_wav_is_decoded_as_libsndfile_does(kind: str, subtype: str) -> None:
    data = written(kind, subtype)
    header = parse_wav(data)
    assert header and header.pcm and (header.pcm.rate, header.pcm.channels) == (RATE, 2)
    samples = header.pcm.decode(data[header.start :][: header.length])
    wanted, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert np.array_equal(samples, wanted)


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM", "GSM610"])
def test_compressed_wav_is_left_to_another_decoder(subtype: str) -> None:
    box = io.BytesIO()
    soundfile.write(box, SOUND[:, 0], 8_000, format="WAV", subtype=subtype)
    header = parse_wav(box.getvalue())
    assert header and header.pcm is None


def test_a_header_may_come_in_pieces() -> None:
    data = written("WAV", "PCM_16")
    whole = parse_wav(data)
    assert whole == WavHeader(PcmFormat("s16le", RATE, 2), 44, 4 * len(SOUND))
    for end in range(whole.start):
        assert parse_wav(data[:end]) is None
    assert parse_wav(data[: whole.start]) == whole


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_piped_writer_states_no_length(size: int) -> None:
    data = written("WAV", "PCM_16")
    header = parse_wav(data[:40] + size.to_bytes(4, "little") + data[44:])
    assert header and header.length is None


@given(data=st.binary(max_size=300), size=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_any_header_is_parsed_or_refused(data: bytes, size: int) -> None:
    for start in (b"RIFF____WAVE", b"RIFF____WAVEfmt ", b"RIFF____WAVEfmt " + size.to_bytes(4, "little")):
        try:
            header = parse_wav(start + data)
        except AudioError as error:
            assert "\n" not in str(error)
        else:
            assert header is None or 12 <= header.start <= len(start + data)


def test_an_endless_header_is_refused() -> None:
    with pytest.raises(AudioError):
        parse_wav(b"RIFF____WAVE" + b"junk\0\0\0\0" * 1_000)
    with pytest.raises(AudioError):
        parse_wav(b"RIFF____WAVEjunk" + (MOST_HEADER + 1).to_bytes(4, "little"))
