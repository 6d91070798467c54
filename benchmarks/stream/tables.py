"""Tables and notes of the reports on streaming."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.report import Cell, Measured, Table
from benchmarks.stream.endurance import Endurance
from benchmarks.stream.load import Load
from benchmarks.stream.realtime import RealTime
from runtime.audio.features import RATE
from runtime.engines.model_loader import LoadedModel
from runtime.summary import Cost

SHARES = (50, 95, 99)  # percentiles of a latency
UNSCORED = 0.1  # s: more than a block and a resampler's memory


@dataclass(frozen=True)
class Capacity:
    """One model under load."""

    name: str
    model: LoadedModel
    speed: float  # times real time, of all streams together
    loads: tuple[Load, ...]  # by number of streams
    largest: int | None  # that holds; None: not searched


def of_rounds(values: Sequence[float]) -> Measured:
    return Measured(median(values), rounds=tuple(values))


def speed_table(files: Sequence[tuple[float, Cost]], starts: Sequence[float]) -> Table:
    steps = np.array([cost.step_ms for _, cost in files])  # (rounds, 3)
    row: dict[str, Cell] = {"mode": "file", "speed": of_rounds([speed for speed, _ in files])}
    row |= {f"step p{share}": float(np.median(steps[:, place])) for place, share in enumerate(SHARES)}
    row["first verdict"] = of_rounds(starts)
    columns = (
        "mode*; speed, times real time > .1; step p50, ms < .2; step p95, ms < .2; step p99, ms < .2; "
        "first verdict, s < .2"
    )
    about = (
        "A file at full speed, decoding included. step: level, features and network. first verdict: from starting the "
        "command, with a warm file system. Medians of the rounds."
    )
    return Table.of("speed", "File mode and start-up", about, columns, [row])


def live_table(live: Mapping[str, RealTime]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in live.items():
        row: dict[str, Cell] = {"condition": name, "verdicts": one.summary.verdicts}
        for kind, values in (("spoken", one.spoken_ms), ("arrived", one.arrived_ms)):
            if values:
                found = np.percentile(values, SHARES).tolist()
                row |= {f"{kind} p{share}": value for share, value in zip(SHARES, found, strict=True)}
        row |= {"lost": 1000 * one.lost, "gaps": one.summary.gaps, "unscored": 1000 * one.unscored}
        rows.append(row | {"CPU": 100 * one.summary.cost.core, "memory": one.summary.cost.resident_mb})
    columns = (
        "condition*; verdicts; spoken p50, ms < .1; spoken p95, ms < .1; spoken p99, ms < .1; "
        "arrived p50, ms < .1; arrived p95, ms < .1; arrived p99, ms < .1; lost, ms < .0; gaps <; "
        "unscored, ms < .0; CPU, % of a core < .1; memory, MB < .0"
    )
    about = (
        "From a verdict's newest sample being spoken, and from its block being delivered, to its being written. "
        "lost: dropped by the full queue. unscored: still in queue and resampler at the end. CPU and memory of the "
        "whole process, the simulated sound card included."
    )
    return Table.of("real-time", "Real time", about, columns, rows)


def hours_table(hours: Endurance) -> Table:
    slope = hours.slope
    row: dict[str, Cell] = {
        "sound": hours.sent / RATE / 3600, "speed": hours.sent / RATE / hours.wall, "samples in": hours.sent,
        "samples scored": hours.scored, "verdicts": hours.verdicts, "verdicts missing": hours.missing,
        "growth": None if slope is None else Measured(slope.value, slope.low, slope.high),
    }  # fmt: skip
    if len(hours.memory):
        row |= {"first": float(hours.memory[0]), "last": float(hours.memory[-1]), "most": float(np.max(hours.memory))}
    columns = (
        "sound, h .2; speed, times real time > .1; samples in; samples scored; verdicts; verdicts missing <; "
        "first, MB .1; last, MB < .1; most, MB < .1; growth, MB per hour of sound < .3"
    )
    about = (
        "Sound through the command's pipe at full speed. Memory of the command's process; growth: slope after "
        "settling, with Student's 95 % interval over batch means."
    )
    return Table.of("hours", "Hours", about, columns, [row])


def notes(live: Mapping[str, RealTime], hours: Endurance | None) -> list[str]:
    found = []
    for name, one in live.items():
        if one.lost:
            found.append(f"{name}: {one.lost:.2f} s of {one.sent:.0f} s were lost in {one.summary.gaps} gaps.")
        if one.unscored > UNSCORED:
            found.append(f"{name}: {one.unscored:.2f} s were unscored at the end: the machine did not keep up.")
    if hours is not None:
        if not hours.complete:
            found.append(f"INCOMPLETE: {hours.sent:,} samples in, {hours.scored:,} scored, {hours.missing:,} verdicts "
                         "missing.")  # fmt: skip
        if hours.slope is None:
            found.append("Too short for a slope of memory, which settles in the first quarter of an hour of sound.")
        elif hours.slope.low > 0:
            low, high = 24 * hours.slope.low, 24 * hours.slope.high
            found.append(f"Memory grows: {low:.2f} to {high:.2f} MB in a day of sound, by this line.")
    return found


def capacity_table(found: Sequence[Capacity]) -> Table:
    rows: list[dict[str, Cell]] = []
    for one in found:
        state = one.model.card.state
        rows.append({
            "model": one.name, "precision": one.model.engine.precision,
            "input": f"{state.frames} frames" if state else "windows", "speed": one.speed, "largest": one.largest,
        })  # fmt: skip
    about = (
        "speed: of 32 streams that never wait, per second of processor time. largest: most streams in real time of "
        "which 99 of 100 scores are less than a step late, to 5 %."
    )
    columns = "model*; precision; input; speed, times real time > .1; largest, streams >"
    return Table.of("largest", "Streams on a core", about, columns, rows)


def load_table(found: Sequence[Capacity]) -> Table:
    rows: list[dict[str, Cell]] = []
    for one, load in [(capacity, load) for capacity in found for load in capacity.loads]:
        row: dict[str, Cell] = {"model": one.name, "streams": load.streams, "holds": "yes" if load.holds else "no"}
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
