"""Quality of an input: level, silence, clipping, digital zeros, and bands that a line removed.

    monitor = QualityMonitor(card.frontend)
    monitor.push(samples)                      # mono at the front-end's rate
    quality = monitor.report()                 # level, flags, spectrum; FLAGS describes each flag

A telephone line removes most of the f0 model's band, and the upper half of what the others see. The voice's mean
spectrum is compared with limits, measured on 250 clips of clean speech and on the same clips through a 300-3400 Hz line
(Butterworth, fifth order; a codec at 8 kHz cuts harder):

    40-130 Hz against 330-1000 Hz     clean: 1 % below -33 dB     line: half below -39 dB    limit -34 dB
    4500-7500 Hz against 400-3400 Hz  clean: none below -42 dB    line: 95 % below -45 dB    limit -45 dB
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FrontEnd, Samples

FRAME = 512  # samples, 32 ms: one spectrum, one level
SILENT = -60.0  # dBFS of a frame; below it there is no voice
# dBFS of the loudest recent frames. Below it rounding to 16 bits moves the LLR by 0.2 in the mean; above -30, by 0.06.
QUIET = -40.0
SILENCE_AFTER = 2.0  # s without a louder frame
ZEROS_AFTER = 1.0  # s of one and the same value: a muted device gives that, a converter does not
CLIPPED = 0.985  # of full scale; resampling moves a flat top a little
CLIPPED_SHARE = 1e-3  # of the samples in a second: 16 of 16,000
VOICE_RANGE = 35.0  # dB below the loudest recent frames: what still counts as voice
LOUDEST_FALLS = 2.0  # dB per second by which the loudest level decays
SPECTRUM_TIME = 3.0  # s of voice, time constant of the mean spectrum
VOICE_NEEDED = 2.0  # s of voice before a band may be called missing
DEEP, OVER_DEEP, LOW_LIMIT = (40, 130), (330, 1000), -34.0  # Hz, Hz, dB
HIGH, UNDER_HIGH, HIGH_LIMIT = (4500, 7500), (400, 3400), -45.0  # Hz, Hz, dB
LOST_LOW, LOST_HIGH = 250.0, 4000.0  # Hz: below and above, a telephone line removes everything
BANDS_NEEDED = 0.25  # share of a front-end's bands below LOST_LOW that makes their loss matter
FLOOR = 1e-12  # of power, -120 dB

FLAGS = {
    "clipping": "the input is overdriven: lower its gain",
    "quiet": "the input is very quiet: raise its gain or come nearer",
    "zeros": "digital zeros arrive: is the input muted?",
    "no-low-band": "this microphone or line removes the low frequencies that the model needs",
    "no-high-band": "this microphone or line removes the high frequencies that the model needs",
    "invalid": "NaN or infinite samples arrived and count as silence",
    "lost": "sound was lost within the last window",
    "antiphase": "the two channels cancel in their mix: judge them one by one",
    "truncated": "the file ends early or is damaged: it was scored as far as it goes",
}
MISSING_BAND = frozenset({"no-low-band", "no-high-band"})
DISABLING = MISSING_BAND | {"quiet", "clipping", "antiphase"}  # no claim is made with these
WHOLE = frozenset({"truncated"})  # holds for the whole source, from where it was found


@dataclass(frozen=True)
class Quality:
    """Level and flags of the input at one moment."""

    level: float  # dBFS, RMS of the last frame
    silent: bool
    flags: tuple[str, ...]  # keys of FLAGS
    spectrum: NDArray[np.float64]  # dB, 257 bins from 0 to 8 kHz: the voice's running mean


class QualityMonitor:
    """Measures one stream in constant memory."""

    def __init__(self, frontend: FrontEnd) -> None:
        self._rate = frontend.rate
        self._period = FRAME / frontend.rate
        frequencies = np.arange(FRAME // 2 + 1) * frontend.rate / FRAME
        self._bins = {band: slice(*np.searchsorted(frequencies, band)) for band in (DEEP, OVER_DEEP, HIGH, UNDER_HIGH)}
        self._taper = np.hanning(FRAME)
        self._needs_low = bool((frontend.centres < LOST_LOW).mean() > BANDS_NEEDED)
        self._needs_high = frontend.passband[1] > LOST_HIGH
        self._window = frontend.seconds
        self.reset()

    def reset(self) -> None:
        """Start anew: after a gap it may be another microphone."""
        self._rest: Samples = np.empty(0, np.float32)
        self._level = self._loudest = -120.0
        self._since_loud = self._same = 0.0  # s
        self._last = np.float32(np.nan)
        self._clipped: deque[int] = deque(maxlen=round(1 / self._period))  # samples of each frame of a second
        self._since_clipped = math.inf  # s
        self._spectrum = np.full(FRAME // 2 + 1, FLOOR)
        self._voice = 0.0  # s of voice in it
        self._marks: dict[str, float] = {}  # s for which a flag stays

    def mark(self, flags: Iterable[str], samples: int = 0) -> None:
        """Flag the next so many samples for as long as the window may contain one of them, or for ever."""
        for flag in flags:
            self._marks[flag] = math.inf if flag in WHOLE else self._window + samples / self._rate

    def push(self, samples: Samples) -> None:
        """Measure new samples (n,), mono."""
        if not len(samples):
            return
        seconds = len(samples) / self._rate
        self._marks = {flag: left - seconds for flag, left in self._marks.items() if left > seconds}
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // FRAME * FRAME
        for frame in np.clip(joined[:whole], -1e4, 1e4).astype(np.float64).reshape(-1, FRAME):
            self._push_frame(frame)
        self._rest = joined[whole:]

    def _push_frame(self, frame: NDArray[np.float64]) -> None:
        self._level = 10 * math.log10(float(np.add.reduce(frame * frame)) / FRAME + FLOOR)
        self._since_loud = 0.0 if self._level > SILENT else self._since_loud + self._period
        constant = frame[0] == frame[-1] and bool((frame == frame[0]).all())
        constant = constant and (self._same == 0 or frame[0] == self._last)
        self._same = self._same + self._period if constant else 0.0
        self._last = np.float32(frame[-1])
        self._clipped.append(int(np.count_nonzero(np.abs(frame) >= CLIPPED)))
        overdriven = sum(self._clipped) > CLIPPED_SHARE * self._rate
        self._since_clipped = 0.0 if overdriven else self._since_clipped + self._period
        self._loudest = max(self._level, self._loudest - LOUDEST_FALLS * self._period)
        if self._level > max(SILENT, self._loudest - VOICE_RANGE):
            spectrum = np.fft.rfft(frame * self._taper)
            power = spectrum.real**2 + spectrum.imag**2 + FLOOR
            self._voice += self._period
            weight = self._period / min(self._voice, SPECTRUM_TIME)  # a plain mean at first
            self._spectrum += weight * (power - self._spectrum)

    @property
    def silent(self) -> bool:
        return self._since_loud >= SILENCE_AFTER

    def report(self, voice: bool = True) -> Quality:
        """Return the quality at the last whole frame. `voice`: whether the window holds any, which may be too quiet."""
        present = {
            "clipping": self._since_clipped < self._window,
            "quiet": voice and self._loudest < QUIET,
            "zeros": self._same >= ZEROS_AFTER,
            "no-low-band": self._needs_low and self._missing(DEEP, OVER_DEEP, LOW_LIMIT),
            "no-high-band": self._needs_high and self._missing(HIGH, UNDER_HIGH, HIGH_LIMIT),
        }
        flags = tuple(flag for flag in FLAGS if present.get(flag) or flag in self._marks)
        return Quality(self._level, self.silent, flags, 10 * np.log10(self._spectrum))

    def _missing(self, band: tuple[int, int], against: tuple[int, int], limit: float) -> bool:
        if self._voice < VOICE_NEEDED:
            return False
        power, reference = (self._spectrum[self._bins[one]].mean() for one in (band, against))
        return bool(power < reference * 10 ** (limit / 10))
