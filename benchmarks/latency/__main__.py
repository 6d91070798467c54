"""Latency of one step: features, network and the whole step, for models and their forms side by side in one run.

    python -m benchmarks.latency                                              # the embedded models
    python -m benchmarks.latency runs/model/model.pt --forms torch float u8   # a checkpoint, exported on the way
    python -m benchmarks.latency model.onnx model.engine --threads 1 2 --batch 1 8
    python -m benchmarks.latency ecanet9 senet50 --check-bare                 # randomly initialised networks
    python -m benchmarks.latency encoder --exit 2 --forms float u8            # two layers of Whisper's encoder
    python -m benchmarks.latency senet9-streaming senet9 --forms u8 --batch 16
    python -m benchmarks.latency f0 --peer other.onnx --peer-shape audio=1x64600

A step is 12 frames, 97.5 ms of sound (log-mel: 120 ms), and 16 frames, 130 ms, of a streaming model; a slower one
cannot keep up. All cases take turns. docs/reports.md describes the tables and how two reports are compared.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from benchmarks.cases import Form
from benchmarks.report import ReportOptions, produce
from benchmarks.stats import RUNS, SECONDS
from runtime.audio.features import Preset
from runtime.card.schema import require
from runtime.support.command import parse, run

EMBEDDED = ("accurate", "edge", "f0")
MOST_BATCH, MOST_THREADS = 1024, 256


@dataclass(frozen=True)
class Options(ReportOptions):
    """Measure the latency of models."""

    models: tyro.conf.Positional[tuple[str, ...]] = EMBEDDED
    """model.pt, model.onnx with its card, model.engine, accurate, edge, f0, or a network: ecanet9-streaming."""
    forms: tuple[Form, ...] = ("torch", "float", "u8")
    """Forms of a checkpoint or a network by name; s8 is placed for TensorRT and slow on a CPU."""
    peer: tuple[Path, ...] = ()
    """Any other ONNX files; their network alone is timed."""
    peer_shape: tuple[str, ...] = ()
    """Sizes that a peer's file leaves open, as audio=1x64600; default 1, and the batch in front."""
    frontend: Preset = "f0"
    """Front-end of a network by name: f0, the lowest 45 bins (0-417 Hz), wide, 60 bands over 0-7 kHz,
    mel, Whisper's log-mel, or mel7k, its bands below 7 kHz."""
    exit: int | None = None
    """Exit of checkpoints, and layers of the network encoder; by default the last one, and 3."""
    batch: tuple[int, ...] = (1,)
    """Windows, or streams of a streaming model, in one call of the network, besides 1."""
    threads: tuple[int, ...] = (1,)
    """CPU threads of the network; several numbers are measured one after the other."""
    seconds: float = SECONDS
    """Seconds that are counted for every case."""
    runs: int = RUNS
    """Least number of runs of a case."""
    check_bare: bool = False
    """Time ONNX Runtime's bare session.run on the same files as well."""

    def __post_init__(self) -> None:
        require(bool(self.models or self.peer), "MODELS: expected at least one, or a --peer")
        require(bool(self.forms), "--forms: expected at least one of torch, float, s8, u8")
        require(all(1 <= n <= MOST_BATCH for n in self.batch), f"--batch {self.batch}: expected 1 to {MOST_BATCH}")
        some = bool(self.threads) and all(1 <= n <= MOST_THREADS for n in self.threads)
        require(some, f"--threads {self.threads}: expected 1 to {MOST_THREADS}")
        require(0 < self.seconds <= 3600, f"--seconds {self.seconds}: expected above 0 and at most 3600")
        require(1 <= self.runs <= 1_000_000, f"--runs {self.runs}: expected 1 to 1,000,000")
        require(not self.peer_shape or bool(self.peer), "--peer-shape: needs a --peer")


def main() -> None:
    options = parse(Options, "benchmarks.latency", __doc__)
    from benchmarks.latency.tables import measure_all

    produce(options, "latency", partial(measure_all, options), shown=("steps", "calls", "bare"))


if __name__ == "__main__":
    run(main)
