"""How long one step takes: features, network and the whole step, for models and their forms side by side in one run.

    python -m benchmarks.latency                                              # the embedded models
    python -m benchmarks.latency runs/model/model.pt --forms torch float u8   # a checkpoint, exported on the way
    python -m benchmarks.latency model.onnx model.engine --threads 1 2 --batch 1 8
    python -m benchmarks.latency ecanet9 senet50 --check-bare                 # networks with weights by chance
    python -m benchmarks.latency senet9-streaming senet9 --forms u8 --batch 16   # steps beside windows
    python -m benchmarks.latency f0 --peer other.onnx --peer-shape audio=1x64600

A step is 12 frames, 97.5 ms of sound, and 16 frames, 130 ms, of a network that remembers: what takes longer cannot keep
up. All take turns (benchmarks/timing.py), so that a noisy machine disturbs them alike. The table goes to stdout, the
report with everything else into a folder; docs/reports.md says how two of them are compared.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.forms import Form
from benchmarks.timing import ROUNDS, RUNS, SECONDS
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

EMBEDDED = ("f0", "wide")
OUT = "runs/reports/latency-%Y%m%d-%H%M%S"
MOST_BATCH, MOST_THREADS = 1024, 256
BUSY = 0.5  # load average from which other work is spoken of
WATCH_EVERY = 2.0  # s between looks at the power while timing: each takes a few ms of a core


@dataclass(frozen=True)
class Options:
    """Measure the latency of models."""

    models: tyro.conf.Positional[tuple[str, ...]] = EMBEDDED
    """model.pt, model.onnx with its card, model.engine, f0, wide, or a network: ecanet9, ecanet9-streaming."""
    forms: tuple[Form, ...] = ("torch", "float", "u8")
    """In which forms a checkpoint or a network's name runs; s8 is placed for TensorRT and slow on a CPU."""
    peer: tuple[Path, ...] = ()
    """Any other ONNX file, fed by what its own inputs say: its network alone is timed."""
    peer_shape: tuple[str, ...] = ()
    """Sizes that a peer's file leaves open, as in audio=1x64600; without it 1, and the batch in front."""
    frontend: Literal["f0", "wide"] = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-8 kHz. For a network's name."""
    batch: tuple[int, ...] = (1,)
    """Windows at once, or streams of a network that remembers, in one call of the network, besides 1."""
    threads: tuple[int, ...] = (1,)
    """CPU threads of the network; several numbers are measured one after the other. A stream takes 1."""
    seconds: float = SECONDS
    """Seconds that are counted for every case."""
    runs: int = RUNS
    """How often a case runs at least."""
    check_bare: bool = False
    """Time ONNX Runtime's bare session.run on the same files as well: what do our engine and this clock add?"""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""

    def __post_init__(self) -> None:
        demands = [
            (bool(self.models or self.peer), "nothing to measure: name models"),
            (bool(self.forms), "--forms: at least one of torch, float, s8, u8 was expected"),
            (all(1 <= n <= MOST_BATCH for n in self.batch), f"--batch: 1 to {MOST_BATCH} were expected"),
            (all(1 <= n <= MOST_THREADS for n in self.threads), f"--threads: 1 to {MOST_THREADS} were expected"),
            (bool(self.threads), "--threads: at least one number was expected"),
            (0 < self.seconds <= 3600, f"--seconds {self.seconds}: above 0 and at most 3600 was expected"),
            (1 <= self.runs <= 1_000_000, f"--runs {self.runs}: 1 to 1,000,000 were expected"),
            (not self.peer_shape or bool(self.peer), "--peer-shape needs a --peer"),
        ]
        for holds, sentence in demands:
            if not holds:
                raise ShrikeError(sentence)


def main() -> None:
    options = parse(Options, "benchmarks.latency", __doc__)
    from benchmarks import host
    from benchmarks.latency_report import compose, printed
    from benchmarks.lineup import line_up
    from benchmarks.report import check_place, report_folder, write_report
    from benchmarks.timing import measure
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    machine = host.describe()
    with tempfile.TemporaryDirectory() as folder:
        lineup = line_up(options, Path(folder), say)
        cases = [entry.case for entry in lineup.entries]
        expected = len(cases) * options.seconds
        say(f"measuring {len(cases)} cases in {ROUNDS} rounds, at least {expected:.0f} s")
        with host.Watch(idle_s=0.5, interval_s=WATCH_EVERY) as watch:
            times = measure(cases, options.seconds, options.runs, say=say)
        energy = lineup.energy(machine, options.seconds, say)
        gpu = lineup.gpu_times()
        lineup.close()
    notes = list(lineup.notes)
    if load > BUSY:
        notes.insert(
            0, f"load average was {load:.1f} on {cores} cores when it began: other work ran, compare ratios alone"
        )
    with report_folder(out, options.overwrite) as temporary:
        report = compose(options, lineup, times, energy, gpu, machine | {"run": watch.report()}, notes, temporary)
        write_report(temporary, report)
    print("\n\n".join(printed(report)))
    say(f"report: {out}/report.md")


if __name__ == "__main__":
    run(main)
