"""Shrike from Python: a model that is loaded once, and scores arrays and streams.

    from runtime import load

    with load("f0") as detector:                        # an embedded model, or a path to model.onnx or model.engine
        summary = detector.score(samples, rate=48_000)  # a whole recording
        print(summary.state, summary.p_spoof, summary.llr)

    with load("f0") as detector:
        stream = detector.stream(rate=48_000)
        for chunk in chunks:                            # of any size
            for verdict in stream.push(chunk):          # one about every tenth of a second
                print(verdict.time, verdict.state, verdict.p_spoof)
        print(stream.finish().line())

The same parts, in the same order, as `python -m runtime.stream`: the same sound gives the same verdicts. Not
thread-safe; many streams at once are runtime.StreamBatcher's.
"""

import math
import os
import time
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.decode import MAX_RATE, MIN_RATE
from runtime.audio.features import Samples
from runtime.audio.resampler import Resampler
from runtime.card.model_card import ModelCard
from runtime.engines.model_loader import DEFAULT, Kind, LoadedModel, find_model, load_model
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sources import Block
from runtime.summary import Summary
from runtime.support.errors import ShrikeError
from runtime.verdict import SMOOTHING, SURE, Verdict

Sound = NDArray[Any]  # (n,) or (n, channels): floats with full scale 1, or integers with the full scale of their type


def load(
    model: str | os.PathLike[str] = DEFAULT, engine: Kind = "auto", threads: int = 1, provider: str = "cpu"
) -> "Detector":
    """An embedded model (f0, wide), or the one at a path to model.onnx or model.engine, its card beside it."""
    return Detector(load_model(find_model(os.fspath(model)), engine, threads, provider))


class Detector:
    """A model that is ready; close it, or use it in a `with`."""

    def __init__(self, chosen: LoadedModel) -> None:
        """By `load`."""
        self._chosen = chosen

    @property
    def card(self) -> ModelCard:
        """What the model is: front-end, calibration, accuracy, origin."""
        return self._chosen.card

    def score(self, samples: Sound, rate: int = 16_000) -> Summary:
        """A whole recording: what `python -m runtime.stream --file` says at its end."""
        stream = self.stream(rate)
        stream.push(samples)
        return stream.finish()

    def stream(
        self,
        rate: int = 16_000,
        *,
        step: int | None = None,
        prior: float = 0.5,
        smoothing: float = SMOOTHING,
        sure: float = SURE,
    ) -> "Stream":
        """Sound that comes bit by bit. `step`: frames between verdicts; the others as in runtime.stream --help."""
        return Stream(self._chosen, rate, VerdictOptions(step, prior, smoothing, sure))

    def close(self) -> None:
        """Give back the engine's memory; calling it twice is fine."""
        self._chosen.engine.close()

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream:
    """One stream of sound: push it, get verdicts. The same sound gives the same ones, however it is cut."""

    name = "array"
    live = False

    def __init__(self, chosen: LoadedModel, rate: int, settings: VerdictOptions) -> None:
        """By `Detector.stream`."""
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ShrikeError(f"rate {rate}: {MIN_RATE:,} to {MAX_RATE:,} Hz were expected")
        self._verdicts = _Collected()
        self._session = Session(chosen.engine, chosen.card, [self._verdicts], settings, chosen.backend)
        self._intake = Resampler(rate, chosen.card.frontend.rate)
        self._session.begin(self)
        self._over = False

    def push(self, samples: Sound) -> list[Verdict]:
        """New sound -> the verdicts that it completes. What is no number counts as silence, and is flagged."""
        if self._over:
            raise ShrikeError("this stream is finished; ask detector.stream() for another")
        mono, invalid = self._intake.push(_floats(samples))
        return self._take(mono, 0.0, invalid)

    def lost(self, seconds: float) -> list[Verdict]:
        """Sound is missing here: time goes on, no verdict spans more than a short hole."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ShrikeError(f"{seconds} s lost: seconds, 0 or more, were expected")
        before = self._take(self._intake.flush(), 0.0, 0)
        return before + self._take(np.empty(0, np.float32), seconds, 0)

    def finish(self) -> Summary:
        """The sound is over; what it amounted to. A second call gives the same."""
        if not self._over:
            self._take(self._intake.flush(), 0.0, 0)
            self._over = True
            try:
                self._summary = self._session.end()
            finally:
                self._session.abandon()
        return self._summary

    def _take(self, mono: Samples, lost: float, invalid: int) -> list[Verdict]:
        self._session.hear(Block(mono, time.monotonic(), lost, invalid))
        return self._verdicts.taken()


class _Collected(Sink):
    """Keeps verdicts until somebody takes them."""

    def __init__(self) -> None:
        self._new: list[Verdict] = []

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._new.append(verdict)

    def taken(self) -> list[Verdict]:
        new, self._new = self._new, []
        return new


def _floats(samples: Sound) -> NDArray[np.float32]:
    """(n, channels) float32 with full scale 1."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi" or (samples.ndim == 2 and samples.shape[1] == 0):
        raise ShrikeError(
            f"sound {samples.shape} of {samples.dtype} came; (n,) or (n, channels), floats with full scale 1 or "
            "integers with that of their type, was expected"
        )
    scale = 1.0 if samples.dtype.kind == "f" else -1.0 / np.iinfo(samples.dtype).min
    wide = samples.astype(np.float32) * np.float32(scale) if scale != 1 else samples.astype(np.float32, copy=False)
    return wide[:, None] if wide.ndim == 1 else wide
