"""Shrike from Python: load a model once, score arrays and streams.

    from runtime import load

    with load("f0") as detector:                        # an embedded model, or a path to model.onnx or model.engine
        summary = detector.score(samples, rate=48_000)  # a whole recording
        print(summary.state, summary.p_spoof, summary.llr)

    with load("f0") as detector:
        stream = detector.stream(rate=48_000)
        for chunk in chunks:                            # of any size
            for verdict in stream.push(chunk):          # about ten a second
                print(verdict.time, verdict.state, verdict.p_spoof)
        print(stream.finish().line())

The same sound gives the same verdicts as `python -m runtime.stream --file`; `shrike scan` scores fewer windows.
Not thread-safe; runtime.StreamBatcher scores many streams at once.
"""

import math
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.channels import MIX, Channel, plan_samples
from runtime.audio.decode import MAX_RATE, MIN_RATE
from runtime.audio.features import Samples
from runtime.audio.resampler import Resampler
from runtime.card.model_card import ModelCard
from runtime.engines.model_loader import DEFAULT, Kind, LoadedModel, find_model, load_model
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sources import Block
from runtime.summary import Summary, worst
from runtime.support.errors import ShrikeError
from runtime.verdict import SMOOTHING, Verdict

Sound = NDArray[Any]  # (n,) or (n, channels): floats with full scale 1, or integers with the full scale of their type


def load(
    model: str | os.PathLike[str] = DEFAULT, engine: Kind = "auto", threads: int = 1, provider: str = "cpu"
) -> "Detector":
    """Load an embedded model, accurate, edge or f0, or the one at a path to model.onnx or model.engine."""
    return Detector(load_model(find_model(os.fspath(model)), engine, threads, provider))


class Detector:
    """A loaded model, by `load`; close it, or use it in a `with`."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @property
    def card(self) -> ModelCard:
        """The model's front-end, calibration, accuracy and origin."""
        return self._model.card

    def score(self, samples: Sound, rate: int = 16_000, channel: Channel | None = None) -> Summary:
        """Score a whole recording, as `python -m runtime.stream --file` does. `channel`: left, right, mix or each; by
        default each of two channels that differ, and the summary of the worst is returned."""
        sound, summaries = _floats(samples), list[Summary]()
        for name in plan_samples(sound, rate, channel):
            stream = self.stream(rate, channel=name)
            stream.push(sound)
            summaries.append(stream.finish())
        return worst(summaries)

    def stream(
        self,
        rate: int = 16_000,
        *,
        step: int | None = None,
        prior: float = 0.5,
        smoothing: float = SMOOTHING,
        sure: float | None = None,
        channel: str = MIX,
    ) -> "Stream":
        """Start a stream of sound. `step`: frames between verdicts; `channel`: left, right or mix; the others as in
        runtime.stream --help."""
        return Stream(self._model, rate, VerdictOptions(step, prior, smoothing, sure), channel)

    def close(self) -> None:
        """Release the engine's memory; a second call does nothing."""
        self._model.engine.close()

    def __enter__(self) -> "Detector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """One stream of sound, by `Detector.stream`. The same sound gives the same verdicts, however it is split."""

    name = "array"
    live = False

    def __init__(self, model: LoadedModel, rate: int, options: VerdictOptions, channel: str = MIX) -> None:
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ShrikeError(f"rate {rate}: expected {MIN_RATE:,} to {MAX_RATE:,} Hz")
        self._verdicts = _Collector()
        self._session = Session(model, [self._verdicts], options)
        self._resampler = Resampler(rate, model.card.frontend.rate, channel)
        self.channel = None if channel == MIX else channel
        self._session.begin(self)
        self._summary: Summary | None = None

    def push(self, samples: Sound) -> list[Verdict]:
        """Return the verdicts that new sound completes. NaN and infinite samples count as silence, and are flagged."""
        if self._summary:
            raise ShrikeError("this stream is finished: call detector.stream() for another")
        sound, second, verdicts = _floats(samples), self._resampler.rate, list[Verdict]()
        for start in range(0, len(sound), second):  # flags hold for a block: it must not be long
            mono, invalid = self._resampler.push(sound[start : start + second])
            verdicts += self._hear(mono, invalid=invalid, flags=self._resampler.flags)
        return verdicts

    def lost(self, seconds: float) -> list[Verdict]:
        """Insert a gap: time goes on, and no verdict spans more than a short one."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ShrikeError(f"{seconds} s lost: expected 0 or more seconds")
        return self._hear(self._resampler.flush()) + self._hear(np.empty(0, np.float32), lost=seconds)

    def finish(self) -> Summary:
        """End the stream and return its summary; a second call returns the same."""
        if not self._summary:
            self._hear(self._resampler.flush())
            self._summary = self._session.finish()
        return self._summary

    def _hear(self, mono: Samples, lost: float = 0.0, invalid: int = 0, flags: tuple[str, ...] = ()) -> list[Verdict]:
        self._session.hear(Block(mono, time.monotonic(), lost, invalid, flags=flags))
        return self._verdicts.take()


class _Collector(Sink):
    """Collects verdicts until they are taken."""

    def __init__(self) -> None:
        self._new: list[Verdict] = []

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._new.append(verdict)

    def take(self) -> list[Verdict]:
        new, self._new = self._new, []
        return new


def _floats(samples: Sound) -> NDArray[np.float32]:
    """Convert to (n, channels) float32 with full scale 1."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi" or (samples.ndim == 2 and samples.shape[1] == 0):
        raise ShrikeError(
            f"sound {samples.shape} of {samples.dtype}: expected (n,) or (n, channels), floats with full scale 1 or "
            "integers with that of their type"
        )
    if samples.ndim == 2 and samples.shape[1] > max(samples.shape[0], 2):  # a block may hold one sample of two channels
        raise ShrikeError(f"sound {samples.shape}: expected (n, channels), one row a sample; transpose it")
    scale = 1.0 if samples.dtype.kind == "f" else -1.0 / np.iinfo(samples.dtype).min
    wide = samples.astype(np.float32) * np.float32(scale) if scale != 1 else samples.astype(np.float32, copy=False)
    return wide[:, None] if wide.ndim == 1 else wide
