"""Hours of sound through `python -m runtime.stream --stdin` at full speed: does it keep count, and does it grow?

    run = endure("f0", voice(600.0), hours=24.0)
    run.missing, run.slope                      # scores that did not come; MB per hour with its interval

The product's own command runs in a process of its own, watched from outside: what is written into its pipe is known,
so that every sample and every score that should have come of it can be accounted for, and its memory is its own.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from benchmarks.speech import as_pcm
from runtime.audio.features import RATE, Samples
from runtime.support.errors import ShrikeError
from runtime.support.measure import resident
from train.evaluate.metrics import Floats
from train.progress import Progress

READINGS = 400  # of memory, over the whole run
SETTLING = 0.2  # share of the run before the slope is taken: caches fill, allocators find their size,
SETTLED = 0.25  # and so many hours of sound at least: until then the heap still takes a few pages at a time
BATCHES = 20  # consecutive readings are alike: the slope is fitted to so many means, which are nearly independent
STUDENT = 2.101  # 97.5 % point of Student's t with BATCHES - 2 degrees of freedom
LEAST = 2 * BATCHES  # readings for a slope
WRITE = 65_536  # bytes at a time, a Linux pipe's size
TALK = 2_000  # characters of the command's stderr that an error repeats


@dataclass(frozen=True)
class Slope:
    """MB per hour of sound."""

    value: float
    low: float
    high: float
    intercept: float  # MB at hour 0, on the fitted line
    begin: float  # hours: where the fit begins


@dataclass(frozen=True)
class Endurance:
    """What went in, what came out, and what it took."""

    sent: int  # samples written into the pipe
    heard: int  # samples that the summary accounts for
    verdicts: int
    missing: int  # verdicts that were due and did not come
    wall: float  # s
    hours: Floats  # of sound at every reading of memory
    memory: Floats  # MB
    slope: Slope | None  # None: too short, or a kernel that does not say

    @property
    def complete(self) -> bool:
        return self.sent == self.heard and self.missing == 0


def endure(model: str, samples: Samples, hours: float, step: int | None = None) -> Endurance:
    """`samples` again and again until it was so many hours."""
    total = round(hours * 3600 * RATE)
    words = [sys.executable, "-m", "runtime.stream", "--stdin", "--rate", str(RATE), "--json"]
    with tempfile.TemporaryFile("w+") as talk:
        process = subprocess.Popen(
            [*words, "--model", model, *(["--step", str(step)] if step else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=talk,
        )
        assert process.stdin is not None and process.stdout is not None
        writer = threading.Thread(target=_write, args=(process.stdin, as_pcm(samples), 2 * total), daemon=True)
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
            talk.seek(0)
            raise ShrikeError(
                f"python -m runtime.stream ended with {process.returncode}: {talk.read()[-TALK:].strip()}"
            )
    times = np.array(found["times"])
    return Endurance(
        sent=total,
        heard=round(found["summary"]["seconds"] * RATE),
        verdicts=len(times),
        missing=missing_verdicts(times, found["start"]["interval"], total / RATE),
        wall=wall,
        hours=np.array(found["hours"]),
        memory=np.array(found["memory"]),
        slope=fit_slope(np.array(found["hours"]), np.array(found["memory"])),
    )


def _write(pipe: IO[bytes], sound: bytes, size: int) -> None:
    """`size` bytes of the sound, repeated; the pipe holds us back."""
    with suppress(BrokenPipeError), pipe:
        for start in range(0, size, len(sound)):
            piece = memoryview(sound)[: size - start]
            for place in range(0, len(piece), WRITE):
                pipe.write(piece[place : place + WRITE])


def _read(pipe: IO[bytes], process: int, seconds: float) -> dict[str, Any]:
    """Start and summary as they came, the time of every verdict, and memory at READINGS places."""
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
    settled = hours >= max(SETTLED, SETTLING * float(hours.max(initial=0)))
    if np.count_nonzero(settled) < LEAST:
        return None
    x = np.array([part.mean() for part in np.array_split(hours[settled], BATCHES)])
    y = np.array([part.mean() for part in np.array_split(memory[settled], BATCHES)])
    rise, centred = y - y[0], x - x.mean()  # from the first: memory that stays is then exactly level
    spread = float((centred**2).sum())
    value = float((centred * rise).sum()) / spread
    noise = float(((rise - rise.mean() - value * centred) ** 2).sum()) / (BATCHES - 2)
    margin = STUDENT * (noise / spread) ** 0.5
    intercept = float(y[0] + rise.mean() - value * x.mean())
    return Slope(value, value - margin, value + margin, intercept, float(hours[settled][0]))
