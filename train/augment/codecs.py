"""Telephone and internet codecs: what a voice has been through when it arrives from somewhere else.

    alaw mulaw            ITU-T G.711 by its formulas, 8 kHz
    gsm adpcm             GSM 06.10 full rate, ITU-T G.721 at 32 kbit/s, 8 kHz, by libsndfile
    opus vorbis mp3       16 kHz, by libsndfile, in memory
    g722 amr              by ffmpeg, where one is installed that has them; two processes a window, so much slower

Opus, Vorbis and MP3 draw their bit rate for every window, from where damage is plain to where it is hardly heard.
"""

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from runtime.audio.features import Samples
from runtime.support.errors import ShrikeError
from train.augment.filters import Dice, as_long

TELEPHONE = 8_000  # Hz
WIDE = 16_000  # Hz

# libsndfile: container, coding, rate, and between which two of its compression levels to draw (None: it has one only).
# Opus: kbit/s = 256 - 250 level, so 32 down to 8. MP3: about 49 down to 18. Vorbis: about 73 down to 35.
LIBSNDFILE: dict[str, tuple[str, str, int, tuple[float, float] | None]] = {
    "gsm": ("WAV", "GSM610", TELEPHONE, None),
    "adpcm": ("AU", "G721_32", TELEPHONE, None),
    "opus": ("OGG", "OPUS", WIDE, (0.896, 0.992)),
    "vorbis": ("OGG", "VORBIS", WIDE, (0.0, 1.0)),
    "mp3": ("MP3", "MPEG_LAYER_III", WIDE, (0.0, 0.99)),
}
# ffmpeg: encoder, container, rate, samples of delay, bits per second between which to draw (some of the standard's)
FFMPEG: dict[str, tuple[str, str, int, int, tuple[int, ...]]] = {
    "g722": ("g722", "g722", WIDE, 22, (64_000,)),
    "amr": ("libopencore_amrnb", "amr", TELEPHONE, 40, (4_750, 5_900, 7_400, 10_200, 12_200)),
}

PATIENCE = 20  # s for one call of ffmpeg, which takes a tenth of one


@dataclass(frozen=True)
class Codec:
    """One of the named codecs, drawn for every window, there and back."""

    names: tuple[str, ...]
    rate: int

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        return through(self.names[dice.integers(len(self.names))], sound, self.rate, dice)


def through(name: str, sound: Samples, rate: int, dice: Dice) -> Samples:
    """Encode and decode at the codec's own rate: (n,) -> (n,)."""
    telephone = name in ("alaw", "mulaw")
    own = TELEPHONE if telephone else (LIBSNDFILE.get(name) or FFMPEG[name])[2]
    # Codecs take 16 bits, and wrap round or worse beyond full scale.
    heard = np.clip(_resampled(sound, rate, own), -1.0, 1.0 - 2.0**-15)
    if telephone:
        heard = _companded(heard, round_trip(name))
    elif name in LIBSNDFILE:
        heard = _by_libsndfile(heard, name, dice)
    else:
        heard = _by_ffmpeg(heard, name, dice)
    return as_long(_resampled(heard, own, rate), len(sound))


def available(names: Sequence[str], rate: int) -> tuple[tuple[str, ...], list[str]]:
    """Those that work here, tried on a short tone, and a sentence for each that does not."""
    tone = (0.1 * np.sin(np.arange(rate // 10) * 0.3)).astype(np.float32)
    working, refused = [], []
    for name in names:
        try:
            through(name, tone, rate, np.random.default_rng(0))
            working.append(name)
        except (soundfile.LibsndfileError, ShrikeError, OSError, ValueError, TypeError) as error:
            needs = f"an ffmpeg with {FFMPEG[name][0]}" if name in FFMPEG else "soundfile 0.13 or newer"
            refused.append(f"codec {name} needs {needs} ({' '.join(str(error).split())[:80]})")
    return tuple(working), refused


# ---- G.711 ---------------------------------------------------------------------------------------------------------


def expand(name: str) -> NDArray[np.int32]:
    """The decoder's output for all 256 codes, as 16-bit samples (A-law's 13 bits times 8, mu-law's 14 times 4)."""
    code = np.arange(256) ^ (0x55 if name == "alaw" else 0xFF)
    segment, step = (code >> 4) & 7, code & 15
    if name == "alaw":
        size = np.where(segment == 0, (step << 4) + 8, ((step << 4) + 0x108) << np.maximum(segment - 1, 0))
        return np.where(code & 0x80, size, -size).astype(np.int32)
    size = (((step << 3) + 0x84) << segment) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int32)


def compress(name: str, samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """16-bit samples -> codes; negative samples are one's complements, as in the standard's own software (G.191)."""
    wide = samples.astype(np.int32)
    size = np.where(wide < 0, ~wide, wide)
    if name == "alaw":
        segment = np.maximum(_log2(size) - 7, 0)
        step = (size >> np.maximum(segment + 3, 4)) & 15
        return ((np.where(wide < 0, 0, 0x80) | segment << 4 | step) ^ 0x55).astype(np.uint8)
    size = np.minimum((size >> 2) + 33, 0x1FFF)
    segment = _log2(size) - 5
    step = (size >> (segment + 1)) & 15
    return ((np.where(wide < 0, 0x80, 0) | segment << 4 | step) ^ 0xFF).astype(np.uint8)


@lru_cache(maxsize=2)
def round_trip(name: str) -> NDArray[np.float32]:
    """Table of the decoded sample for every 16-bit sample, by its bits as unsigned number: (65536,), full scale 1."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16)
    return (expand(name)[compress(name, samples)] / 2**15).astype(np.float32)


def _companded(sound: Samples, table: NDArray[np.float32]) -> Samples:
    return table[np.rint(sound * np.float32(2**15)).astype(np.int16).view(np.uint16)]


def _log2(size: NDArray[np.int32]) -> NDArray[np.int32]:
    """Place of the highest bit; 0 for 0."""
    return (np.frexp(np.maximum(size, 1).astype(np.float64))[1] - 1).astype(np.int32)


# ---- others' codecs ------------------------------------------------------------------------------------------------


def _by_libsndfile(sound: Samples, name: str, dice: Dice) -> Samples:
    container, coding, rate, levels = LIBSNDFILE[name]
    level = {} if levels is None else {"compression_level": float(dice.uniform(*levels))}
    with io.BytesIO() as file:
        soundfile.write(file, sound, rate, format=container, subtype=coding, **level)
        file.seek(0)
        return soundfile.read(file, dtype="float32")[0]


def _by_ffmpeg(sound: Samples, name: str, dice: Dice) -> Samples:
    encoder, container, rate, delay, bits = FFMPEG[name]
    bit_rate = bits[dice.integers(len(bits))]
    return through_ffmpeg(np.pad(sound, (0, delay)), rate, encoder, bit_rate, container)[delay:]


def through_ffmpeg(sound: Samples, rate: int, encoder: str, bit_rate: int, container: str) -> Samples:
    """Encode and decode by ffmpeg, as 16-bit samples: (n,) -> (n and what the codec adds,)."""
    raw = ["-f", "s16le", "-ar", str(rate), "-ac", "1"]
    samples = np.rint(sound * 2**15).astype("<i2").tobytes()
    coded = run_ffmpeg(
        [*raw, "-i", "pipe:0", "-c:a", encoder, "-b:a", str(bit_rate), "-f", container, "pipe:1"], samples
    )
    decoded = run_ffmpeg(["-f", container, "-i", "pipe:0", *raw, "pipe:1"], coded)
    return np.frombuffer(decoded, "<i2").astype(np.float32) / np.float32(2**15)


def ffmpeg_program() -> str:
    """Return the path of ffmpeg."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise ShrikeError("there is no ffmpeg here: sudo apt install ffmpeg")
    return program


def run_ffmpeg(arguments: list[str], data: bytes) -> bytes:
    """Send data through ffmpeg: stdin to stdout."""
    command = [ffmpeg_program(), "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ShrikeError(f"ffmpeg did not answer for {PATIENCE} s: run again, or leave its codecs out") from error
    if done.returncode or not done.stdout:
        raise ShrikeError(done.stderr.decode("utf-8", "replace").partition("\n")[0] or "ffmpeg gave nothing back")
    return done.stdout


def _resampled(sound: Samples, rate: int, wanted: int) -> Samples:
    return sound if rate == wanted else soxr.resample(sound, rate, wanted, "HQ")
