"""Tables and notes of the reports on streaming; that of hours is in endurance.py."""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from benchmarks.report import Cell, Measured, Table
from benchmarks.stream.endurance import Endurance, slope
from benchmarks.stream.load import Load
from benchmarks.stream.realtime import RealTime
from runtime.summary import Cost

SHARES = (50, 95, 99)  # percentiles of a latency
UNSCORED = 0.1  # s: more than a block and a resampler's memory


def speed_table(files: Sequence[tuple[float, Cost]], starts: Sequence[float]) -> Table:
    speeds, steps = [speed for speed, _ in files], np.median([cost.step_ms for _, cost in files], axis=0).tolist()
    row: dict[str, Cell] = {"mode": "file", "speed": Measured(median(speeds), rounds=tuple(speeds))}
    row |= {f"step p{share}": value for share, value in zip(SHARES, steps, strict=True)}
    row["first verdict"] = Measured(median(starts), rounds=tuple(starts))
    about = (
        "A file at full speed, decoding included. step: level, features and network. first verdict: from starting the "
        "command, with a warm file system. Medians of the rounds."
    )
    columns = (
        "mode*; speed, times real time > .1; step p50, ms < .2; step p95, ms < .2; step p99, ms < .2; "
        "first verdict, s < .2"
    )
    return Table.of("speed", "File mode and start-up", about, columns, [row])


def live_table(live: Mapping[str, RealTime]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in live.items():
        row: dict[str, Cell] = {"condition": name, "verdicts": one.summary.verdicts}
        for kind, values in (("spoken", one.spoken_ms), ("arrived", one.arrived_ms)):
            row |= {f"{kind} p{share}": float(np.percentile(values, share)) for share in SHARES if values}
        row |= {"lost": 1000 * one.lost, "gaps": one.summary.gaps, "unscored": 1000 * one.unscored}
        rows.append(row | {"CPU": 100 * one.summary.cost.core, "memory": one.summary.cost.resident_mb})
    about = (
        "From a verdict's newest sample being spoken, and from its block being delivered, to its being written. "
        "lost: dropped by the full queue. unscored: still in queue and resampler at the end. CPU and memory of the "
        "whole process, the simulated sound card included."
    )
    columns = (
        "condition*; verdicts; spoken p50, ms < .1; spoken p95, ms < .1; spoken p99, ms < .1; arrived p50, ms < .1; "
        "arrived p95, ms < .1; arrived p99, ms < .1; lost, ms < .0; gaps <; unscored, ms < .0; CPU, % of a core < .1; "
        "memory, MB < .0"
    )
    return Table.of("real-time", "Real time", about, columns, rows)


def notes(live: Mapping[str, RealTime], hours: Endurance | None) -> list[str]:
    found = []
    for name, one in live.items():
        if one.lost:
            found.append(f"{name}: {one.lost:.2f} s of {one.sent:.0f} s were lost in {one.summary.gaps} gaps.")
        if one.unscored > UNSCORED:
            found.append(f"{name}: {one.unscored:.2f} s were unscored at the end: the machine did not keep up.")
    if hours is not None:
        growth = slope(hours.hours, hours.memory)
        if not hours.complete:
            found.append(
                f"INCOMPLETE: {hours.sent - hours.scored:,} samples and {hours.missing:,} verdicts are missing."
            )
        if growth is None:
            found.append("Too short for a slope of memory, which settles in the first quarter of an hour of sound.")
        elif growth.low is not None and growth.low > 0:
            found.append(f"Memory grows: by this slope {24 * growth.value:.2f} MB in a day of sound.")
    return found


def capacity_table(rows: Sequence[dict[str, Cell]]) -> Table:
    about = (
        "speed: of 32 streams that never wait, per second of processor time. largest: most streams in real time of "
        "which 99 of 100 scores are less than a step late, to 5 %."
    )
    columns = "model*; precision; input; speed, times real time > .1; largest, streams >"
    return Table.of("largest", "Streams on a core", about, columns, rows)


def load_table(loads: Mapping[str, Sequence[Load]]) -> Table:
    """By model."""
    rows: list[dict[str, Cell]] = []
    for name, load in [(name, load) for name, loads_of in loads.items() for load in loads_of]:
        row: dict[str, Cell] = {"model": name, "streams": load.streams, "holds": "yes" if load.holds else "no"}
        if load.late_ms:
            row |= {f"late p{share}": load.percentile(share) for share in SHARES}
            row |= {"worst": max(load.late_ms), "scores": len(load.late_ms), "step": 1000 * load.interval}
            row["too late"] = 100 * sum(late > 1000 * load.interval for late in load.late_ms) / len(load.late_ms)
        rows.append(row | {"CPU": 100 * load.cpu})
    about = (
        "late: from the delivery of the last sample that a score needs to the score. too late: by more than a step. "
        "CPU of the process, feeding its streams included."
    )
    columns = (
        "model*; streams*; holds; step, ms .1; scores; late p50, ms < .1; late p95, ms < .1; late p99, ms < .1; "
        "worst, ms < .1; too late, % < .2; CPU, % of the core < .1"
    )
    return Table.of("load", "Real time", about, columns, rows)
