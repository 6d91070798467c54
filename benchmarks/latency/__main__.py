"""Latency of one step: features, network and the whole step, for models and their forms side by side in one run.

    python -m benchmarks.latency                                              # the embedded models
    python -m benchmarks.latency runs/model/model.pt --forms torch float u8   # a checkpoint, exported on the way
    python -m benchmarks.latency model.onnx model.engine --threads 1 2 --batch 1 8
    python -m benchmarks.latency ecanet9 senet50 --check-bare                 # randomly initialised networks
    python -m benchmarks.latency encoder --exit 2 --forms float u8            # two layers of Whisper's encoder
    python -m benchmarks.latency senet9-streaming senet9 --forms u8 --batch 16
    python -m benchmarks.latency f0 --peer other.onnx --peer-shape audio=1x64600

A step is 12 frames, 97.5 ms of sound, and 16 frames, 130 ms, of a streaming model; a slower one cannot keep up. All
cases take turns. docs/reports.md describes the tables and how two reports are compared.
"""

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.cases import Form
from benchmarks.report import ReportOptions
from benchmarks.stats import RUNS, SECONDS
from runtime.card.schema import require
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

EMBEDDED = ("accurate", "edge", "f0")
MOST_BATCH, MOST_THREADS = 1024, 256
WATCH_EVERY = 2.0  # s between readings of power while timing: each takes a few ms of a core


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
    frontend: Literal["f0", "wide", "mel"] = "f0"
    """Front-end of a network by name: f0, the lowest 45 bins (0-417 Hz), or wide, 60 bands over 0-7 kHz."""
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
    from benchmarks import host
    from benchmarks.latency.lineup import PEER, line_up, measure_energy
    from benchmarks.latency.tables import tables
    from benchmarks.report import Plot, busy_note, finish, new_report, report_folder, write_report
    from benchmarks.report.plots import draw_latencies
    from benchmarks.stats import ROUNDS, WARM_UP, measure
    from train.progress import say

    out = options.place("latency")
    notes, machine, plots = busy_note(), host.describe(), list[Plot]()
    with tempfile.TemporaryDirectory() as exported, report_folder(out, options.overwrite) as folder:
        lineup = line_up(options, Path(exported))
        say(f"measuring {len(lineup.entries)} cases, at least {len(lineup.entries) * options.seconds:.0f} s")
        with host.Watch(idle_s=0.5, interval_s=WATCH_EVERY) as watch:
            times = measure([entry.case for entry in lineup.entries], options.seconds, options.runs)
        for entry, found in zip(lineup.entries, times, strict=True):
            entry.times = found
        measure_energy(lineup, options.seconds)
        shown = [entry for entry in lineup.entries if entry.part == "step" or (entry.form, entry.batch) == (PEER, 1)]
        curves = {f"{e.model} {e.form}, {e.threads} thread(s)": [1000 * s for s in e.times.sorted] for e in shown}
        with suppress(ShrikeError):  # without matplotlib, as on a device
            draw_latencies(curves, folder / "distribution.png", "ms of a step (of a peer: network)", "runs")
            plots.append(Plot("distribution.png", "Share of runs that took at most so long."))
        conditions = {
            "batch": list(options.batch), "threads": list(options.threads), "forms": list(options.forms),
            "seconds of each case, at least": options.seconds, "runs of each case, at least": options.runs,
            "rounds": ROUNDS, "warm-up, ms": 1000 * WARM_UP, "inputs of peers": lineup.inputs,
            "ONNX Runtime": "CPUExecutionProvider, intra-op threads as named, 1 inter-op thread, else its defaults",
        }  # fmt: skip
        models = dict.fromkeys(entry.model for entry in lineup.entries if entry.part == "network")
        report = new_report(
            "latency", f"Latency of {', '.join(models)}", machine | {"run": watch.report()}, conditions, tables(lineup),
            [*notes, *lineup.notes], plots,
        )  # fmt: skip
        for engine in lineup.engines:
            engine.close()
        write_report(folder, report)
    finish(report, out, hidden=("times",))


if __name__ == "__main__":
    run(main)
