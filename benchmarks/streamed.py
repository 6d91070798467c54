"""The tables of a stream's report, and what a reader must not overlook in them."""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from benchmarks.endurance import Endurance
from benchmarks.latency import BUSY
from benchmarks.pacing import RealTime
from benchmarks.report import Cell, Column, Measured, Table
from runtime.audio.features import RATE
from runtime.summary import Cost

SHARES = (50, 95, 99)  # percentiles of a latency
UNHEARD = 0.1  # s: more than a block and what a resampler keeps, so that something still waited


def of_rounds(values: Sequence[float]) -> Measured:
    """Their median, with all of them."""
    return Measured(median(values), rounds=tuple(values))


def speed_table(files: Sequence[tuple[float, Cost]], starts: Sequence[float]) -> Table:
    """Of file mode, and of the command's start."""
    steps = np.array([cost.step_ms for _, cost in files])  # (rounds, 3)
    row: dict[str, Cell] = {"mode": "file", "speed": of_rounds([speed for speed, _ in files])}
    row |= {f"step p{share}": float(np.median(steps[:, place])) for place, share in enumerate(SHARES)}
    row["first verdict"] = of_rounds(starts)
    columns = (
        Column("mode", key=True),
        Column("speed", "times real time", "higher", digits=1),
        *(Column(f"step p{share}", "ms", "lower", digits=2) for share in SHARES),
        Column("first verdict", "s", "lower", digits=2),
    )
    about = (
        "A file as fast as it goes, decoding included. A step is level, features and network. First verdict: from "
        "starting the command, files in the system's cache. Medians of the rounds, which report.json holds."
    )
    return Table.of("speed", "File mode and start-up", about, columns, [row])


def live_table(live: Mapping[str, RealTime]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in live.items():
        row: dict[str, Cell] = {"condition": name, "verdicts": one.summary.verdicts}
        for kind, values in (("spoken", one.spoken_ms), ("arrived", one.arrived_ms)):
            found = np.percentile(values, SHARES) if values else [None] * len(SHARES)
            row |= {
                f"{kind} p{share}": None if value is None else float(value)
                for share, value in zip(SHARES, found, strict=True)
            }
        row |= {"lost": 1000 * one.lost, "gaps": one.summary.gaps, "unheard": 1000 * one.unheard}
        row |= {"CPU": 100 * one.summary.cost.core, "memory": one.summary.cost.resident_mb}
        rows.append(row)
    columns = (
        Column("condition", key=True),
        Column("verdicts"),
        *(
            Column(f"{kind} p{share}", "ms", "lower", digits=1)
            for kind in ("spoken", "arrived")
            for share in SHARES
        ),
        Column("lost", "ms", "lower", digits=0),
        Column("gaps", better="lower"),
        Column("unheard", "ms", "lower", digits=0),
        Column("CPU", "% of a core", "lower", digits=1),
        Column("memory", "MB", "lower", digits=0),
    )  # fmt: skip
    about = (
        "From a verdict's newest sample being spoken, and from its block being handed over, to the verdict being "
        "written. Lost: dropped by the full queue. Unheard: still in queue and resampler when the sound was over. "
        "CPU and memory of the whole process, the made sound card included."
    )
    return Table.of("real-time", "Real time", about, columns, rows)


def hours_table(hours: Endurance) -> Table:
    slope = hours.slope
    row: dict[str, Cell] = {
        "sound": hours.sent / RATE / 3600,
        "speed": hours.sent / RATE / hours.wall,
        "samples in": hours.sent,
        "samples scored": hours.heard,
        "verdicts": hours.verdicts,
        "verdicts missing": hours.missing,
        "growth": None if slope is None else Measured(slope.value, slope.low, slope.high),
    }
    if len(hours.memory):
        row |= {"first": float(hours.memory[0]), "last": float(hours.memory[-1]), "most": float(hours.memory.max())}
    columns = (
        Column("sound", "h", digits=2),
        Column("speed", "times real time", "higher", digits=1),
        Column("samples in"),
        Column("samples scored"),
        Column("verdicts"),
        Column("verdicts missing", better="lower"),
        Column("first", "MB", digits=1),
        Column("last", "MB", "lower", digits=1),
        Column("most", "MB", "lower", digits=1),
        Column("growth", "MB per hour of sound", "lower", digits=3),
    )
    about = (
        "Sound through the command's pipe at full speed. Memory is that of the command's process; its growth is a line "
        "from where it has settled, with Student's 95 % interval over batch means."
    )
    return Table.of("hours", "Hours", about, columns, [row])


def notes(live: Mapping[str, RealTime], hours: Endurance | None, load: float = 0.0) -> list[str]:
    """`load` is the system's average when the run began."""
    said = []
    if load > BUSY:
        said.append(
            f"The load average was {load:.1f} when it began: other work ran, and these times are not a machine's."
        )
    for name, one in live.items():
        if one.lost:
            said.append(f"{name}: {one.lost:.2f} s of {one.sent:.0f} s were lost in {one.summary.gaps} gaps.")
        if one.unheard > UNHEARD:
            said.append(f"{name}: {one.unheard:.2f} s still waited when the sound was over: it did not keep up.")
    if hours is not None:
        if not hours.complete:
            said.append(
                f"NOT COMPLETE: {hours.sent:,} samples went in and {hours.heard:,} were scored; {hours.missing:,} "
                "verdicts are missing."
            )
        if hours.slope is None:
            said.append("Too short for a slope of memory, which settles in the first quarter of an hour of sound.")
        elif hours.slope.low > 0:
            low, high = 24 * hours.slope.low, 24 * hours.slope.high
            said.append(f"Memory grows: by this line {low:.2f} to {high:.2f} MB in a day of sound.")
    return said
