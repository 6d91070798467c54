"""Hours of sound through `python -m runtime.stream --stdin` at full speed: every sample scored, and no memory growth.

    run = endure(Path("runtime/models/f0.onnx"), samples, hours=24.0)
    run.missing, run.slope                      # verdicts that did not come; MB per hour with its interval

The command runs in a process of its own. What is written into its pipe is known, so every verdict that is due can be
checked, and its memory is read from outside.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from runtime.audio.features import RATE, Samples
from runtime.support.errors import ShrikeError
from runtime.support.measure import resident
from train.evaluate.metrics import Floats
from train.progress import Progress

READINGS = 400  # of memory, over the whole run
SETTLING = 0.2  # share of the run before the slope is fitted: caches fill, allocators find their size
SETTLED = 0.25  # hours of sound before it, at least
BATCHES = 20  # means that the slope is fitted to: neighbouring readings are alike, batch means nearly independent
STUDENT = 2.101  # 97.5 % point of Student's t with BATCHES - 2 degrees of freedom
WRITE = 65_536  # bytes at a time, the size of a Linux pipe


@dataclass(frozen=True)
class Slope:
    """MB per hour of sound."""

    value: float
    low: float
    high: float
    intercept: float  # MB at hour 0 of the fitted line
    begin: float  # hours at which the fit begins


@dataclass(frozen=True)
class Endurance:
    """Samples in, verdicts out, and memory."""

    sent: int  # samples written
    scored: int  # samples by the summary
    verdicts: int
    missing: int  # verdicts that were due and did not come
    wall: float  # s
    hours: Floats  # of sound at every reading of memory
    memory: Floats  # MB
    slope: Slope | None  # None: the run was too short

    @property
    def complete(self) -> bool:
        return self.sent == self.scored and self.missing == 0


def endure(model: Path, samples: Samples, hours: float, step: int | None = None) -> Endurance:
    """Repeat `samples` for so many hours."""
    total = round(hours * 3600 * RATE)
    words = [sys.executable, "-m", "runtime.stream", "--stdin", "--rate", str(RATE), "--json", "--model", str(model)]
    words += ["--step", str(step)] if step else []
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert process.stdin is not None and process.stdout is not None
        writer = threading.Thread(target=_write, args=(process.stdin, pcm, 2 * total), daemon=True)
        try:
            began = time.monotonic()
            writer.start()
            found = _read(process.stdout, process.pid, total / RATE)
            process.wait()
            wall = time.monotonic() - began
        finally:
            process.kill()
            process.wait()
        if process.returncode or "summary" not in found:
            log.seek(0)
            raise ShrikeError(f"python -m runtime.stream ended with {process.returncode}: {log.read()[-2000:].strip()}")
    times, at, memory = (np.array(found[name]) for name in ("times", "hours", "memory"))
    missing = missing_verdicts(times, found["start"]["interval"], total / RATE)
    scored = round(found["summary"]["seconds"] * RATE)
    return Endurance(total, scored, len(times), missing, wall, at, memory, fit_slope(at, memory))


def _write(pipe: IO[bytes], pcm: bytes, size: int) -> None:
    """Write `size` bytes of the repeated sound."""
    with suppress(BrokenPipeError), pipe:
        for start in range(0, size, len(pcm)):
            piece = memoryview(pcm)[: size - start]
            for place in range(0, len(piece), WRITE):
                pipe.write(piece[place : place + WRITE])


def _read(pipe: IO[bytes], process: int, seconds: float) -> dict[str, Any]:
    """Start and summary, the time of every verdict, and READINGS readings of memory."""
    found: dict[str, Any] = {"times": [], "hours": [], "memory": []}
    due, done = 0.0, 0
    with Progress("hours of sound", round(seconds), "s of sound") as bar:
        for line in pipe:
            entry = json.loads(line)
            if entry["type"] != "verdict":
                found[entry["type"]] = entry
                continue
            found["times"].append(entry["t"])
            if entry["t"] >= due and (memory := resident(process)) is not None:
                due = entry["t"] + seconds / READINGS
                found["hours"].append(entry["t"] / 3600)
                found["memory"].append(memory)
            if (news := round(entry["t"]) - done) > 0:
                bar.advance(news)
                done += news
    return found


def missing_verdicts(times: Floats, interval: float, seconds: float) -> int:
    """Verdicts that did not come, by the clock of the sound: between others, and between the last and the end."""
    if not len(times):
        return round(seconds / interval)
    steps = np.rint(np.diff(times) / interval) - 1
    return int(np.abs(steps).sum()) + max(0, int((seconds - times[-1]) / interval))


def fit_slope(hours: Floats, memory: Floats) -> Slope | None:
    """Least squares on batch means, with Student's interval."""
    settled = hours >= max(SETTLED, SETTLING * float(np.max(hours, initial=0.0)))
    if np.count_nonzero(settled) < 2 * BATCHES:
        return None
    x, y = ([part.mean() for part in np.array_split(values[settled], BATCHES)] for values in (hours, memory))
    (value, level), spread = np.polyfit(x, np.subtract(y, y[0]), 1, cov=True)  # constant memory is exactly level
    margin = STUDENT * float(spread[0, 0]) ** 0.5
    return Slope(value, value - margin, value + margin, level + y[0], float(hours[settled][0]))
