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

from benchmarks.report import Cell, Measured, Table
from runtime.audio.features import RATE, Samples
from runtime.support.errors import ShrikeError
from runtime.support.measure import resident
from train.evaluate.metrics import Floats
from train.progress import Progress

READINGS = 400  # of memory, over the whole run
SETTLING, SETTLED = 0.2, 0.25  # share of the run, and hours at least, before the slope: caches and heap fill
BATCHES = 20  # means that the slope is fitted to: neighbouring readings are alike, batch means nearly independent
STUDENT = 2.101  # 97.5 % point of Student's t with BATCHES - 2 degrees of freedom


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

    @property
    def complete(self) -> bool:
        return self.sent == self.scored and self.missing == 0

    def table(self) -> Table:
        hours = self.sent / RATE / 3600
        row: dict[str, Cell] = {
            "sound": hours, "speed": 3600 * hours / self.wall, "samples in": self.sent, "samples scored": self.scored,
            "verdicts": self.verdicts, "verdicts missing": self.missing, "growth": slope(self.hours, self.memory),
        }  # fmt: skip
        if len(self.memory):
            row |= {"first": float(self.memory[0]), "last": float(self.memory[-1]), "most": float(np.max(self.memory))}
        about = "The command's pipe at full speed. growth: slope of its memory after settling, with 95 % interval."
        columns = (
            "sound, h .2; speed, times real time > .1; samples in; samples scored; verdicts; verdicts missing <; "
            "first, MB .1; last, MB < .1; most, MB < .1; growth, MB per hour of sound < .3"
        )
        return Table.of("hours", "Hours", about, columns, [row])


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
    return Endurance(total, round(found["summary"]["seconds"] * RATE), len(times), missing, wall, at, memory)


def _write(pipe: IO[bytes], pcm: bytes, size: int) -> None:
    """Write `size` bytes of the repeated sound; a closed pipe ends it."""
    with suppress(BrokenPipeError), pipe:
        for start in range(0, size, len(pcm)):
            pipe.write(memoryview(pcm)[: size - start])


def _read(pipe: IO[bytes], process: int, seconds: float) -> dict[str, Any]:
    """Start and summary, the time of every verdict, and READINGS readings of memory."""
    found: dict[str, Any] = {"times": [], "hours": [], "memory": []}
    due = 0.0
    with Progress("hours of sound", READINGS, "readings") as bar:
        for entry in map(json.loads, pipe):
            if entry["type"] != "verdict":
                found[entry["type"]] = entry
                continue
            found["times"].append(entry["t"])
            if entry["t"] >= due and (memory := resident(process)) is not None:
                due = entry["t"] + seconds / READINGS
                found["hours"].append(entry["t"] / 3600)
                found["memory"].append(memory)
                bar.advance()
    return found


def missing_verdicts(times: Floats, interval: float, seconds: float) -> int:
    """Verdicts that did not come, by the clock of the sound: between others, and between the last and the end."""
    if not len(times):
        return round(seconds / interval)
    steps = np.rint(np.diff(times) / interval) - 1
    return int(np.abs(steps).sum()) + max(0, int((seconds - times[-1]) / interval))


def slope(hours: Floats, memory: Floats) -> Measured | None:
    """MB per hour of sound: least squares on batch means with Student's interval; None for too short a run."""
    settled = hours >= max(SETTLED, SETTLING * float(np.max(hours, initial=0.0)))
    if np.count_nonzero(settled) < 2 * BATCHES:
        return None
    x, y = ([part.mean() for part in np.array_split(values[settled], BATCHES)] for values in (hours, memory))
    (value, _), spread = np.polyfit(x, np.subtract(y, y[0]), 1, cov=True)  # constant memory is exactly level
    margin = STUDENT * float(spread[0, 0]) ** 0.5
    return Measured(float(value), float(value) - margin, float(value) + margin)
