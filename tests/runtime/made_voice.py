"""Synthetic voice for tests: vowels in two phrases, with a pause.

    samples = voice(rate=16_000)                           # (n,) float32, the same in every run

Source and filter, as in Klatt (1980), but as a sum of harmonics: each harmonic of a moving pitch gets the slope of the
glottis and the gain of the vowel's four formants. Breath, sibilants and jitter come from a generator with a fixed
seed. It does not sound like a person, but it has the bands and pauses of speech.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import Samples

FRAME = 0.005  # s between values of pitch, formants and loudness
GLIDE = 0.045  # s over which one sound turns into the next
SLOPE = -12.0 + 6.0  # dB per octave, of the glottis and of the lips' radiation
BREATH = 0.02  # of the voice's loudness
JITTER = 0.012  # share by which pitch wanders
LEVEL = 0.08  # RMS, -22 dBFS
NOISE = 1e-4  # RMS of the room, -80 dBFS: digital zeros would look like a muted microphone
SEED = 1980

# Formants in Hz of a man's vowels (Peterson and Barney, 1952, rounded); the fourth is nearly the same for all.
VOWELS = {
    "a": (730, 1090, 2440, 3500),
    "e": (530, 1840, 2480, 3500),
    "i": (270, 2290, 3010, 3600),
    "o": (570, 840, 2410, 3400),
    "u": (300, 870, 2240, 3400),
}
BANDWIDTHS = (70.0, 90.0, 150.0, 250.0)  # Hz
SIBILANT = (3800.0, 7600.0)  # Hz

# Sound, seconds, pitch in Hz at its end. "s" is a sibilant, "." a pause.
PHRASES = (
    *((".", 0.4, 120), ("a", 0.30, 132), ("e", 0.18, 128), ("s", 0.12, 125), ("i", 0.22, 140), ("o", 0.30, 126)),
    *(("u", 0.20, 118), ("s", 0.10, 118), ("a", 0.28, 124), ("i", 0.25, 112), ("o", 0.40, 98), (".", 0.55, 98)),
    *(("e", 0.22, 136), ("a", 0.26, 150), ("s", 0.13, 145), ("u", 0.24, 138), ("i", 0.30, 131), ("a", 0.24, 122)),
    *((".", 0.20, 122), ("o", 0.28, 128), ("e", 0.20, 134), ("s", 0.11, 130), ("a", 0.34, 118), ("i", 0.22, 126)),
    *(("u", 0.26, 114), ("e", 0.24, 108), ("s", 0.14, 104), ("o", 0.46, 90), (".", 0.55, 90)),
)

Track = NDArray[np.float64]


def voice(rate: int) -> Samples:
    """Synthesise the two phrases, (n,), the same in every run."""
    rng = np.random.default_rng(SEED)
    sounds = [sound for sound, seconds, _ in PHRASES for _ in range(round(seconds / FRAME))]
    ends = np.cumsum([seconds for _, seconds, _ in PHRASES])
    frames = np.arange(len(sounds)) * FRAME
    pitch = np.interp(frames, ends, [hertz for _, _, hertz in PHRASES])
    pitch *= 1 + JITTER * smooth(rng.standard_normal(len(frames)) * 3, GLIDE)
    formants = np.array([VOWELS.get(sound, VOWELS["e"]) for sound in sounds], float)  # (frames, 4)
    formants = np.stack([smooth(track, GLIDE) for track in formants.T], axis=1)
    voiced = smooth(np.array([sound in VOWELS for sound in sounds], float), GLIDE)
    hissing = smooth(np.array([sound == "s" for sound in sounds], float), GLIDE / 2)

    times = np.arange(round(len(sounds) * FRAME * rate)) / rate
    phase = 2 * np.pi * np.cumsum(np.interp(times, frames, pitch)) / rate
    sound = np.zeros(len(times))
    for number in range(1, int(rate / 2 / pitch.min()) + 1):
        loudness = envelope(number * pitch, formants) * number ** (SLOPE / 6.02)
        loudness[number * pitch > 0.95 * rate / 2] = 0
        sound += np.interp(times, frames, loudness) * np.sin(number * phase)
    sound *= np.interp(times, frames, voiced)
    sound *= LEVEL / np.sqrt(np.mean(sound**2))
    breath = band(rng.standard_normal(len(times)), rate, 500.0, 0.95 * rate / 2) * np.abs(sound) * BREATH / LEVEL
    hiss = band(rng.standard_normal(len(times)), rate, *SIBILANT) * np.interp(times, frames, hissing) * LEVEL / 2
    return (sound + breath * LEVEL + hiss + NOISE * rng.standard_normal(len(times))).astype(np.float32)


def envelope(frequency: Track, formants: NDArray[np.float64]) -> Track:
    """Gain of the vocal tract at `frequency`, (frames,): four resonances in series, 1 at 0 Hz."""
    out = np.ones(len(frequency))
    for place, bandwidth in enumerate(BANDWIDTHS):
        squared = formants[:, place] ** 2
        out *= squared / np.hypot(squared - frequency**2, bandwidth * frequency)
    return out


def smooth(track: Track, seconds: float) -> Track:
    """Smooth by a raised-cosine mean over that many seconds."""
    taper = np.hanning(max(3, round(2 * seconds / FRAME)) + 2)[1:-1]
    padded = np.pad(track, len(taper) // 2, mode="edge")
    return np.convolve(padded, taper / taper.sum(), mode="same")[len(taper) // 2 :][: len(track)]


def band(noise: Track, rate: int, low: float, high: float) -> Track:
    """Band-pass filtered noise with RMS 1."""
    spectrum = np.fft.rfft(noise)
    frequencies = np.fft.rfftfreq(len(noise), 1 / rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    out = np.fft.irfft(spectrum, len(noise))
    return np.asarray(out / np.sqrt(np.mean(out**2)))
