"""Containers of sound, by their first bytes: names, the header of WAV, and the PCM samples behind it.

    recognise(b"fLaC...")                       # "FLAC"; None for anything else, such as raw samples
    header = parse_wav(data)                    # None while the header is not complete
    header.pcm.decode(data[header.start :])     # (n, channels) float32, full scale 1

Everything here works on bytes that come from a pipe: nothing seeks, and a header's sizes never allocate memory.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import AudioError

NEEDED = 12  # bytes that decide for every container but MP3
MP3_NEEDED = 4_096  # bytes: two MPEG frames, of at most 1,441 bytes each at Layer III
MOST_HEADER = 2**20  # bytes before the samples: WAV files of broadcasters begin with long notes
MOST_CHUNKS = 100
MOST_CHANNELS = 64
UNKNOWN_BYTES = 0x7FFF_0000  # bytes; piped recorders write 2 GiB - 1, 2 GiB or 4 GiB - 1 for a length they cannot know
TYPES = {"s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "u8": "u1", "f32le": "<f4", "f64le": "<f8"}
WIDE = {"s24le": "<i4"}  # three bytes each, which become the upper ones of four

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # format tags of WAV
CODINGS = {(PCM, 1): "u8", (PCM, 2): "s16le", (PCM, 3): "s24le", (PCM, 4): "s32le"} | {
    (FLOAT, 4): "f32le", (FLOAT, 8): "f64le"
}  # fmt: skip

# Bit rates in kbit/s and sample rates in Hz of MPEG audio, ISO 11172-3 and 13818-3; an index of 0 or 15 is no frame.
LAYER3 = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2 and 2.5
}
MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class PcmFormat(NamedTuple):
    """Interleaved samples."""

    coding: str  # one of TYPES or WIDE
    rate: int  # Hz
    channels: int

    @property
    def size(self) -> int:
        """Bytes of one frame, which is one sample of every channel."""
        width = 3 if self.coding in WIDE else np.dtype(TYPES[self.coding]).itemsize
        return width * self.channels

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Convert the bytes of whole frames to (n, channels), full scale 1."""
        if self.coding in WIDE:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = padded.view("<i4").reshape(-1, self.channels)
        else:
            values = np.frombuffer(data, TYPES[self.coding]).reshape(-1, self.channels)
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is counted as invalid
                return values.astype(np.float32)
        if values.dtype.kind == "u":
            return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
        return values.astype(np.float32) / np.float32(2 ** (8 * values.dtype.itemsize - 1))


class WavHeader(NamedTuple):
    """Header of a WAV stream, up to its samples."""

    pcm: PcmFormat | None  # None: compressed, for another decoder
    start: int  # byte of the first sample
    length: int | None  # bytes of samples; None if the header does not state it


def recognise(data: bytes) -> str | None:
    """Name the container that begins with these bytes, or None."""
    for name, place, mark in (
        *(("WAV", 8, b"WAVE"), ("FLAC", 0, b"fLaC"), ("Ogg", 0, b"OggS\0"), ("AIFF", 8, b"AIFF"), ("AIFF", 8, b"AIFC")),
        *(("MP4", 4, b"ftyp"), ("Matroska or WebM", 0, b"\x1aE\xdf\xa3"), ("CAF", 0, b"caff\0"), ("AMR", 0, b"#!AMR")),
    ):
        if data[place : place + len(mark)] == mark and (place != 8 or data[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM")):
            return name
    if data[:3] == b"ID3" and len(data) >= 10 and data[3] < 5 and max(data[6:10]) < 0x80:
        return "MP3"
    first = _mpeg_frame(data)
    if first and data[first + 1 : first + 2] == data[1:2] and _mpeg_frame(data[first:]):
        return "MP3"
    return None


def bytes_needed(data: bytes) -> int:
    """Return how many bytes `recognise` needs of a stream that begins with these."""
    return MP3_NEEDED if len(data) >= NEEDED and _mpeg_frame(data) else NEEDED


def _mpeg_frame(data: bytes) -> int:
    """Length of the Layer III frame that begins here; 0 if none does."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return 0
    version, bit_rate, rate = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3
    if version not in MPEG_RATES or rate == 3 or not 0 < bit_rate < 15:
        return 0
    first = version == 3
    kilobits = LAYER3[first][bit_rate - 1]
    return (144 if first else 72) * 1000 * kilobits // MPEG_RATES[version][rate] + (data[2] >> 1 & 1)


def parse_wav(data: bytes) -> WavHeader | None:
    """Parse the beginning of a WAV stream; None while the samples have not begun. AudioError for a broken header."""
    if data[:4] == b"RIFX":
        return WavHeader(None, 0, None)
    place, pcm, found = 12, None, False
    for _ in range(MOST_CHUNKS):
        if place + 8 > len(data):
            return None
        name, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        place += 8
        if name == b"data":
            if not found:
                raise AudioError("its WAV header has no format before the samples")
            # Size 0: the writer ended before it could return to its header.
            return WavHeader(pcm, place, size if 0 < size < UNKNOWN_BYTES else None)
        if name == b"fmt ":
            if place + min(size, 40) > len(data):
                return None
            pcm, found = _pcm_format(data[place : place + min(size, 40)]), True
        place += size + size % 2
        if place > MOST_HEADER:
            break
    raise AudioError(f"its WAV header has no samples in its first {MOST_CHUNKS} chunks and {MOST_HEADER:,} bytes")


def _pcm_format(chunk: bytes) -> PcmFormat | None:
    if len(chunk) < 16:
        raise AudioError("its WAV header is too short")
    tag, channels, rate, _, align, _ = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= 26:
        tag = struct.unpack_from("<H", chunk, 24)[0]
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"its WAV header states {channels} channels: expected 1 to {MOST_CHANNELS}")
    coding = CODINGS.get((tag, align // channels)) if align % channels == 0 else None
    return PcmFormat(coding, rate, channels) if coding else None
