"""The front-end: log band power, the one definition of what networks see.

    frames = PRESETS["f0"].frames(samples)      # whole clip: (n, 45) float32
    stream = FeatureStream(PRESETS["f0"])
    new = stream.push(chunk)                     # any chunk size; the same frames, bit for bit

    log(max(bands of |STFT of high-passed samples|^2, 1e-8))

Frame t covers samples [130 t, 130 t + window). Nothing is centred, nothing comes from the future:

    samples  |0         130       260       390                          1728
    frame 0  [==========================================================)
    frame 1            [==========================================================)
    frame 2                      [==========================================================)

`f0` is the paper's F0 subband: the lowest 45 bins (0-417 Hz) of a 1728-point spectrum. `wide` covers 0-7 kHz with 60
triangular bands, because what F0 shows decides within one recording domain and hardly beyond it. It ends below 8 kHz,
so that the anti-alias filter of whoever resampled a recording does not show.

`mel` is Whisper's log-mel spectrogram, for networks that start from its encoder: a Hann window of 25 ms every 10 ms, 80
mel bands over 0-8 kHz (Slaney's scale and norm), and the level `window-max`: every value is relative to the window's
loudest, at most 80 dB below it, in decades over 4. Two deviations: frames are not centred (a shift of 12.5 ms; nothing
is padded, so stream = file), and gain cannot matter, because Whisper's 1 + level / 4 is fixed at LOUDEST. `mel7k` is
the lowest 76 of these bands, which end at 6.9 kHz, for the reason that `wide` ends at 7.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.audio.high_pass import HighPass
from runtime.support.codec import later
from runtime.support.errors import ShrikeError

VERSION = 2  # of the arithmetic below; 1 had no high-pass, a floor of 1e-10, and triangles up to 8 kHz
RATE = 16_000  # Hz
HOP = 130  # samples, 8.125 ms
WINDOW_FRAMES = 600  # frames a network sees: 599 x 130 + 1728 samples = 4.98 s (f0)
TOP = 7_000  # Hz, where the last triangle ends
# Of power. The rounding noise of 16 bits has 4e-8 in a bin of f0 and 5e-8 in a triangle of wide, so the floor lies 6 dB
# below it: a recording's noise shows, and digital silence differs from it by 2 nats at most.
FLOOR = 1e-8
MEL_BANDS = 80  # of Whisper's log-mel, from 0 to half the rate
BLOCK = 256  # frames transformed at once: bounds the memory of a long clip (256 x 1728 x 8 bytes = 3.5 MB)

LEVEL_FRAMES = 300  # time constant of the running mean, 2.4 s: what it averages is then as old as a window's mean is

LN10 = math.log(10)
DECADES = 8  # below the window's loudest value lies the floor of window-max, 80 dB
LOUDEST = 1.5  # value of the loudest with window-max: Whisper's scale for a peak of log10(power) = 2, near full scale

Bands = Literal["bins", "triangular", "mel"]
Level = Literal["none", "window-mean", "running-mean", "window-max"]
Preset = Literal["f0", "wide", "mel", "mel7k"]
Samples = NDArray[np.float32]
Frames = NDArray[np.float32]


@dataclass(frozen=True)
class FrontEnd:
    """Log band power with a periodic window: Blackman, of mel bands Hann. The transform is as long as the window."""

    window: int = 1728  # samples, 108 ms: resolves 9.26 Hz
    bands: int = 45  # values per frame
    # bins: the lowest `bands` bins; triangular: overlapping triangles up to TOP; mel: the lowest of Whisper's 80 bands
    shape: Bands = "bins"
    # none: as published; else gain cannot matter, as the window's mean, the past's or the window's maximum is taken out
    level: Level = "none"
    hop: int = HOP
    rate: int = RATE
    width: int = WINDOW_FRAMES  # frames in one window
    version: int = later(VERSION, before=1)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            old = type(self.version) is int and self.version < VERSION
            advice = "train the model again with this Shrike, and export it" if old else "update Shrike"
            raise ShrikeError(f"front-end version {self.version!r}: expected {VERSION}; {advice}")
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type is int and (type(value) is not int or not 0 < value < 1_000_000):
                raise ShrikeError(f"front-end: {one.name} is {value!r}; a positive whole number was expected")
        if self.shape not in get_args(Bands) or self.level not in get_args(Level):
            raise ShrikeError(
                f"front-end: this version knows the bands {get_args(Bands)} and the levels {get_args(Level)}, "
                f"not {self.shape!r} with {self.level!r}; update Shrike"
            )
        if self.rate != RATE:
            raise ShrikeError(f"front-end: rate {self.rate}; expected {RATE} Hz, as voice activity detection needs it")
        if self.window > RATE or self.width > 65_536 or self.bands > 1_024 or self.hop > self.window:
            raise ShrikeError(f"front-end: {self} has too large a window, or hops over samples")
        if self.bands * self.width > 2**22:
            raise ShrikeError(f"front-end: {self} has more values in a window than {2**22:,}")
        # Every triangle needs a bin on both of its sides.
        most = self.bins if self.shape == "bins" else self.window * min(2 * TOP, self.rate) // (2 * self.rate) - 1
        if self.shape == "mel":
            empty = mel_bands(MEL_BANDS, self.bins, self.rate).max(axis=1) == 0
            most = int(empty.argmax()) if empty.any() else MEL_BANDS
        if self.bands > most:
            raise ShrikeError(f"front-end: {self} has more bands than its bins can fill; expected at most {most}")

    def with_level(self, level: Level) -> "FrontEnd":
        return replace(self, level=level)

    @property
    def bins(self) -> int:
        return self.window // 2 + 1

    @property
    def seconds(self) -> float:
        """Seconds of sound that one window of frames covers."""
        return ((self.width - 1) * self.hop + self.window) / self.rate

    @property
    def passband(self) -> tuple[float, float]:
        """Lowest and highest frequency in Hz that any band sees."""
        seen = np.flatnonzero(self.matrix.sum(axis=0)) * self.rate / self.window
        return float(seen[0]), float(seen[-1])

    @property
    def centres(self) -> NDArray[np.float64]:
        """Mean frequency in Hz of each band, (bands,)."""
        weights = self.matrix.astype(np.float64)
        found: NDArray[np.float64] = weights @ (np.arange(self.bins) * self.rate / self.window)
        return found / np.maximum(weights.sum(axis=1), 1e-9)

    def count(self, samples: int) -> int:
        """Number of frames in that many samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    @cached_property
    def taper(self) -> NDArray[np.float64]:
        """Periodic Blackman window, of mel bands Hann window, (window,)."""
        angle = 2 * np.pi * np.arange(self.window) / self.window
        if self.shape == "mel":
            return 0.5 - 0.5 * np.cos(angle)
        return 0.42 - 0.5 * np.cos(angle) + 0.08 * np.cos(2 * angle)

    @cached_property
    def slopes(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        r"""Triangles as sums over segments: first bin of each, (bands + 1,), rise and fall of every bin up to TOP.

        band k     /\            band k rises through segment k and falls through segment k + 1,
        segment   |k |k+1|       so each bin is used twice: `rise` for one band, 1 - `rise` (fall) for the one before
        """
        top = min(TOP / self.rate, 0.5) * self.window  # in bins
        edges = np.linspace(0.0, top, self.bands + 2)
        bins = np.arange(math.floor(top) + 1)
        segment = np.minimum(np.searchsorted(edges, bins, side="right") - 1, self.bands)
        rise = (bins - edges[segment]) / (edges[segment + 1] - edges[segment])
        starts = np.searchsorted(segment, np.arange(self.bands + 1))
        return starts, rise, 1.0 - rise

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The bands as one matrix, (bands, bins)."""
        if self.shape == "bins":
            return np.eye(self.bands, self.bins)
        if self.shape == "mel":
            return mel_bands(MEL_BANDS, self.bins, self.rate)[: self.bands]
        starts, rise, fall = self.slopes
        matrix = np.zeros((self.bands + 2, self.bins))  # the first and last row collect what falls outside
        for segment, (start, stop) in enumerate(zip(starts, [*starts[1:], len(rise)], strict=True)):
            matrix[segment + 1, start:stop] += rise[start:stop]
            matrix[segment, start:stop] += fall[start:stop]
        return matrix[1:-1]

    @cached_property
    def members(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """The matrix as a list of its entries, row by row: first entry of each band, bins, weights."""
        rows, bins = np.nonzero(self.matrix)
        return np.searchsorted(rows, np.arange(self.bands)), bins, self.matrix[rows, bins]

    def frames(self, samples: Samples) -> Frames:
        """All frames of a clip: (samples,) -> (n, bands); n is 0 for a clip shorter than one analysis window."""
        stream, piece = FeatureStream(self), BLOCK * self.hop
        parts = [stream.push(samples[start : start + piece]) for start in range(0, len(samples), piece)]
        return np.concatenate(parts) if parts else np.empty((0, self.bands), np.float32)

    def frames_of(self, filtered: NDArray[np.float64]) -> Frames:
        """The same of samples behind the high-pass."""
        out = np.empty((self.count(len(filtered)), self.bands), np.float32)
        if len(out):
            # Frames as overlapping rows. numpy's sliding_window_view says the same, at a tenth of a step's cost.
            filtered = np.ascontiguousarray(filtered)
            strides = (self.hop * filtered.itemsize, filtered.itemsize)
            view = np.ndarray((len(out), self.window), filtered.dtype, filtered, strides=strides)
            for start in range(0, len(out), BLOCK):
                out[start : start + BLOCK] = self._log_bands(view[start : start + BLOCK])
        return out

    def _log_bands(self, view: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, window) samples -> (n, bands). Every step works row by row, so that n never changes a bit of the result
        (a matrix product would: BLAS sums in another order for other shapes)."""
        spectrum = np.fft.rfft(view * self.taper, axis=1)
        if self.shape == "bins":
            spectrum = spectrum[:, : self.bands]
        power = spectrum.real**2 + spectrum.imag**2
        if self.shape == "triangular":
            starts, rise, fall = self.slopes
            power = power[:, : len(rise)]
            rising = np.add.reduceat(power * rise, starts, axis=1)
            falling = np.add.reduceat(power * fall, starts, axis=1)
            power = rising[:, :-1] + falling[:, 1:]
        elif self.shape == "mel":
            starts, bins, weights = self.members
            power = np.add.reduceat(power[:, bins] * weights, starts, axis=1)
        return np.log(np.maximum(power, FLOOR))


def mel_bands(bands: int, bins: int, rate: int) -> NDArray[np.float64]:
    """Slaney's mel filters, each of area 1 Hz, (bands, bins): linear below 1 kHz, 27 bands per factor 6.4 above."""
    step = math.log(6.4) / 27
    mels = np.linspace(0.0, 15 + math.log(rate / 2 / 1000) / step, bands + 2)  # 3 mel are 200 Hz
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (np.maximum(mels, 15) - 15)))
    hertz, gaps = np.linspace(0.0, rate / 2, bins), np.diff(edges)[:, None]
    rise, fall = (hertz - edges[:-2, None]) / gaps[:-1], (edges[2:, None] - hertz) / gaps[1:]
    return np.maximum(0.0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]


PRESETS: dict[str, FrontEnd] = {
    "f0": FrontEnd(),
    "wide": FrontEnd(window=512, bands=60, shape="triangular"),
    "mel": FrontEnd(window=400, bands=MEL_BANDS, shape="mel", level="window-max", hop=160, width=500),
    "mel7k": FrontEnd(window=400, bands=76, shape="mel", level="window-max", hop=160, width=500),
}


def fill(frames: Frames, width: int) -> Frames:
    """The first `width` frames; a shorter clip repeats its frames from the start: (n, bands) -> (width, bands)."""
    if len(frames) >= width:
        return frames[:width]
    return np.take(frames, np.arange(width) % len(frames), axis=0)


def level(window: Frames, kind: Level) -> Frames:
    """Normalise the gain of frames (n, bands): a factor on the samples is a constant in log power.

    The running mean begins with the first of them: weights exp(-age / 300), which its sum of weights divides out.
    """
    if kind == "none":
        return window
    if kind == "window-mean":
        return window - window.mean(dtype=np.float64).astype(np.float32)
    if kind == "window-max":
        return np.maximum((window - window.max()) / (4 * LN10) + LOUDEST, LOUDEST - DECADES / 4).astype(np.float32)
    keep = math.exp(-1 / LEVEL_FRAMES)
    means = window.mean(axis=1, dtype=np.float64)
    average, sums = 0.0, list[float]()
    for mean in means.tolist():
        average = keep * average + (1 - keep) * mean
        sums.append(average)
    weights = 1 - keep ** np.arange(1, len(means) + 1)
    return window - (np.asarray(sums) / weights).astype(np.float32)[:, None]


class FeatureStream:
    """The same frames from chunks of any size. Keeps less than one analysis window of samples between chunks."""

    def __init__(self, frontend: FrontEnd) -> None:
        self.frontend = frontend
        self._high_pass = HighPass(frontend.rate)
        self.reset()

    def reset(self) -> None:
        """Start anew: after a gap no frame may span it, and the high-pass starts with the first sample behind it."""
        self._high_pass.reset()
        self._rest: NDArray[np.float64] = np.empty(0)

    def push(self, samples: Samples) -> Frames:
        """New samples (any number, also none) -> the frames they complete, (n, bands)."""
        joined = np.concatenate([self._rest, self._high_pass.push(np.asarray(samples, np.float32))])
        new = self.frontend.frames_of(joined)
        self._rest = joined[len(new) * self.frontend.hop :].copy()  # a view would keep all of it
        return new
