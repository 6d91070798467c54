"""Decode a sound file to mono float32 at a model's rate. The rules are stated here and nowhere else.

    from runtime.audio.decode import load
    clip = load("call.flac")            # clip.samples (n,) float32, clip.rate 16000, clip.notes

    channels    averaged
    rate        resampled once, with soxr HQ
    8 bits      accepted with a note: their quantisation noise stays
    length      a file with less than its header promises is refused; LOSS_TOLERATED allows for writers that count
                their header in. A header without a length is noted: an Ogg stream without its last page, an MP3
                without a table of contents, the WAV of a piped recorder.
    refused     no file, no samples, not decodable to the end, NaN or infinite, silent, below 8 kHz, above an hour

Any bytes give a Clip or an AudioError of one sentence, never another exception. The header is checked before anything
is decoded, and decoding goes block by block, so that no header can claim memory.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from runtime.audio.containers import UNKNOWN_BYTES
from runtime.support.errors import AudioError
from runtime.support.suggestions import nearby

if TYPE_CHECKING:
    import soundfile

MIN_RATE = 8_000  # Hz, telephone speech: slower recordings hold less than the 4 kHz that speech needs
MAX_RATE = 384_000  # Hz, the fastest converters sold; a header above is damaged
MAX_SECONDS = 3_600  # s, one hour: 230 MB of float32 at 16 kHz
BLOCK = 2**20  # values decoded at a time over all channels: 4 MB of float32
LOSS_TOLERATED = 0.1  # s, of what a header promises: one hop of verdicts, 1600 samples of 98,000 in a window
FIRST_MP3_FRAME = 64  # bytes; the mark is at most 4 + 2 (checksum) + 32 (side information) bytes in
UNKNOWN_FRAMES = 2**62  # frames; libsndfile says 2^63 - 1 where a header states no length
EIGHT_BITS = frozenset({"PCM_S8", "PCM_U8"})  # libsndfile's names; companded telephony (u-law, A-law) is finer

# libsndfile shortens a file to what is there, and only its log shows that: `data : 64000 (should be 31956)` in WAV and
# CAF, SSND in AIFF, `Data Size` in AU, riff in W64, `Riff size` in RF64. WAV's RIFF size is wrong too often to count.
SHORTENED = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
OGG_WITHOUT_END = re.compile(r"Last page lacks an end-of-stream bit|Junk after the last page")
OGG_WITH_A_HOLE = re.compile(r"reports a hole|Corrupted bitstream")
OGG_CUT = "may be cut off: its Ogg stream has no proper end"


class UndecodableError(AudioError):
    """A file in which libsndfile finds no sound; another decoder may."""


@dataclass(frozen=True)
class Clip:
    """Decoded sound."""

    samples: npt.NDArray[np.float32]  # (n,), mono, full scale is 1
    rate: int  # Hz
    notes: tuple[str, ...]  # changes and doubts, a sentence each


def load(path: str | os.PathLike[str], rate: int = 16_000) -> Clip:
    """Decode the sound file at `path` to `rate` Hz; AudioError for a file that cannot be used."""
    with decoding(), open_sound(path) as sound:
        _check_length(sound)
        samples, decoded = _decode(sound, rate)
        notes = check_losses(sound, decoded, path)
        if sound.channels > 1:
            notes.append(f"{sound.channels} channels averaged")
        if sound.subtype in EIGHT_BITS:
            notes.append("8-bit recording: its quantisation noise stays")
        if sound.samplerate != rate:
            notes.append(f"resampled from {sound.samplerate} Hz")
    return Clip(samples, rate, tuple(notes))


def open_sound(path: str | os.PathLike[str]) -> "soundfile.SoundFile":
    """Open a file for decoding, after checks of the file itself and of its header's rate."""
    _check_file(path)
    if os.path.splitext(os.fspath(path))[1].lower() == ".raw":
        # By this name soundfile asks for rate and width instead of looking for a header.
        raise AudioError("a .raw file states neither its rate nor its sample format: convert it to WAV")
    with decoding():
        # Bytes, because soundfile cannot encode the names of files that are not UTF-8; Windows wants text.
        sound = _sequential()(os.fspath(path) if os.name == "nt" else os.fsencode(path))
    try:
        if sound.frames <= 0:
            raise UndecodableError("holds no samples")
        check_rate(sound.samplerate)
    except AudioError:
        sound.close()
        raise
    return sound


@cache
def _sequential() -> "type[soundfile.SoundFile]":
    """Return a SoundFile that does not seek: soundfile does after every read, inexactly in an MP3 with a wrong header,
    and not at all in a FLAC file that states no length."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Sequential


@contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever soundfile and soxr raise into an AudioError of one line."""
    import soundfile

    try:
        yield
    except AudioError:
        raise
    except soundfile.LibsndfileError as error:
        raise UndecodableError(f"cannot be decoded ({_one_line(error.error_string)})") from error
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError, MemoryError) as error:
        raise AudioError(f"cannot be decoded ({_one_line(str(error)) or type(error).__name__})") from error


def _check_file(path: str | os.PathLike[str]) -> None:
    """Check the file itself: libsndfile calls every cause a system error, and would wait on a pipe."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise AudioError(f"there is no such file{nearby(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise AudioError(f"cannot be opened ({_one_line(getattr(error, 'strerror', None) or str(error))})") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError("is a directory, not a sound file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("is a device or a pipe, not a sound file")
    if not os.access(path, os.R_OK):
        raise AudioError("may not be read: permission denied")
    if status.st_size == 0:
        raise AudioError("the file is empty")


def check_rate(rate: int) -> None:
    """Check the sample rate that a header states."""
    if rate < MIN_RATE:
        raise AudioError(f"recorded at {rate:,} Hz; expected at least {MIN_RATE:,} Hz")
    if rate > MAX_RATE:
        raise AudioError(f"its header claims {rate:,} Hz; above {MAX_RATE:,} Hz it must be damaged")


def _check_length(sound: "soundfile.SoundFile") -> None:
    """Check that a whole clip fits into memory."""
    if sound.frames >= UNKNOWN_FRAMES:
        raise AudioError("its header does not state its length: let sox or ffmpeg rewrite it")
    if sound.frames > MAX_SECONDS * sound.samplerate:
        hours = sound.frames / sound.samplerate / 3600
        raise AudioError(f"lasts {hours:,.1f} h; the longest accepted is {MAX_SECONDS / 3600:g} h: cut it into pieces")


def check_losses(sound: "soundfile.SoundFile", decoded: int, path: str | os.PathLike[str]) -> list[str]:
    """Compare the decoded length with the header's: notes for what may be missing, AudioError for what is."""
    log = sound.extra_info
    seconds = sound.frames / sound.samplerate
    for promised, present in ((int(a), int(b)) for a, b in SHORTENED.findall(log)):
        if promised >= UNKNOWN_BYTES:
            return ["its header states no length: read to the end of the file"]
        _check_loss(seconds * (promised / max(present, 1) - 1), seconds * promised / max(present, 1))
    if sound.format == "OGG" and OGG_WITH_A_HOLE.search(log):
        raise AudioError("damaged: its Ogg stream has a hole")
    if sound.format == "OGG" and OGG_WITHOUT_END.search(log):
        return [OGG_CUT]
    if sound.format == "MP3" and not mp3_states_length(path):
        return ["its header states no length: libsndfile's estimate was read"]
    _check_loss((sound.frames - decoded) / sound.samplerate, seconds)
    return []


def _check_loss(missing: float, promised: float) -> None:
    if missing > LOSS_TOLERATED:
        raise AudioError(f"cut off: {missing:.1f} of the {promised:.1f} s that its header promises are missing")


def mp3_states_length(path: str | os.PathLike[str]) -> bool:
    """True if the first MPEG frame is a table of contents; without it the length of a variable bit rate is a guess."""
    with open(path, "rb") as file:
        tag = file.read(10)
        if tag[:3] == b"ID3" and len(tag) == 10:  # its size: four bytes of seven bits, without these ten
            file.seek(10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        frame = file.read(FIRST_MP3_FRAME)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _decode(sound: "soundfile.SoundFile", rate: int) -> tuple[npt.NDArray[np.float32], int]:
    """Average and resample block by block; return the samples (n,) and how many frames the file held.

    soxr's stream gives the samples that it gives for the whole signal, bit for bit.
    """
    resampler = None
    if sound.samplerate != rate:
        import soxr

        resampler = soxr.ResampleStream(sound.samplerate, rate, 1, dtype="float32", quality="HQ")
    pieces: list[npt.NDArray[np.float32]] = []
    decoded = 0
    first: np.float32 | None = None
    silent = True
    while True:
        block = sound.read(max(1, BLOCK // sound.channels), dtype="float32", always_2d=True)  # (frames, channels)
        if len(block) == 0:
            break
        if not np.isfinite(block).all():
            raise AudioError("holds NaN or infinite samples")
        # In float64, because the sum of two huge floats would overflow where their mean does not.
        mono = block[:, 0] if sound.channels == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
        first = mono[0] if first is None else first
        silent = silent and bool((mono == first).all())
        decoded += len(mono)
        pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
    if decoded == 0:
        raise AudioError("holds no samples")
    if silent:
        raise AudioError("silent: every sample has the same value")
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    samples = np.concatenate(pieces)
    if len(samples) == 0:
        raise AudioError(f"too short: its {decoded} samples leave none at {rate} Hz")
    if not np.isfinite(samples).all():
        raise AudioError("holds samples too large to resample")
    return np.ascontiguousarray(samples, np.float32), decoded


def _one_line(text: str) -> str:
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")
