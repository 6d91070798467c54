"""Verdicts and a stream's description, for tests of sinks."""

from typing import Any

import numpy as np

from runtime.audio.features import RATE
from runtime.audio.quality import Quality
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.changes import StateChange
from runtime.verdict import Verdict

STEP = 0.1  # s between verdicts
QUALITY = Quality(-20.0, False, (), np.zeros(257))


def info(source: str = "USB microphone") -> StreamInfo:
    return StreamInfo(
        source, True, "wide", "ONNX Runtime", "int8", True, STEP, 4.98, 0.5, (0.0, 407.4), RATE, 0.1, 0.9, 0.3
    )


def verdict(time: float, state: Any, quality: Quality = QUALITY) -> Verdict:
    return Verdict(time, state, 1.0, 2.0, 1.5, 0.18, 4.0, 60.0, quality)


def feed(sink: Sink, *states: tuple[str, float], start: float = 0.0) -> float:
    """Give a sink verdicts: each state for so many seconds. Return the time of the last one."""
    time = start
    for state, seconds in states:
        for _ in range(round(seconds / STEP)):
            time += STEP
            sink.verdict(verdict(time, state), None)
    return time


def change(state: str = "spoof", number: int = 0, source: str = "USB microphone") -> StateChange:
    return StateChange(
        "2026-11-26T07:00:00.000Z", source, "wide", number, 0.0, state, None, 0.9, -2.0, -20.0, ("quiet",)
    )
